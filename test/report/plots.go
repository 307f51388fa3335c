package main

import (
	"bytes"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plots are the pictures of the page, by the name of their file. What wasn't measured isn't drawn: the page says so.
var plots = map[string]func(*results) ([]byte, error){
	"throughput": throughputPlot,
	"cpu":        cpuPlot,
	"latency":    latencyPlot,
	"chunk-size": chunkPlot,
	"recovery":   recoveryPlot,
	"peers":      peersPlot,
}

// measure names a figure for a picture.
type measure struct{ label, name, unit string }

// svg is a white picture.
func svg(p *plot.Plot, width, height vg.Length) ([]byte, error) {
	c := vgsvg.New(width, height)
	p.BackgroundColor = color.White
	p.Draw(draw.New(c))
	var b bytes.Buffer
	_, err := c.WriteTo(&b)
	return b.Bytes(), err
}

// bars has one for each figure that was measured, with its number above.
func bars(title, unit string, figures []measure, r *results) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.Y.Min = title, unit, 0
	var values plotter.Values
	var names []string
	labels := plotter.XYLabels{}
	for _, f := range figures {
		if v, ok := r.value(f.name, f.unit); ok {
			labels.XYs = append(labels.XYs, plotter.XY{X: float64(len(values)), Y: v})
			labels.Labels = append(labels.Labels, number(v))
			values, names = append(values, v), append(names, f.label)
		}
	}
	if len(values) > 0 {
		chart, err := plotter.NewBarChart(values, 34)
		if err != nil {
			return nil, err
		}
		chart.Color, chart.LineStyle.Width = plotutil.Color(2), 0
		numbers, err := plotter.NewLabels(labels)
		if err != nil {
			return nil, err
		}
		for i := range numbers.TextStyle {
			numbers.TextStyle[i].XAlign = draw.XCenter
		}
		p.Add(chart, numbers)
		p.Y.Max = slices.Max(values) * 1.12
		p.NominalX(names...)
		p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	}
	return svg(p, vg.Length(110+85*len(values)), 260)
}

// stacked has for each of some runs one bar of parts.
func stacked(title, unit string, runs []measure, parts []string, r *results) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text, p.Y.Min = title, unit, 0
	p.Legend.Top = true
	names := make([]string, len(runs))
	var below *plotter.BarChart
	tallest := 0.0
	for i, part := range parts {
		values := make(plotter.Values, len(runs))
		for j, run := range runs {
			names[j] = run.label
			values[j], _ = r.value(run.name, part+"-"+run.unit)
			if total, _ := r.value(run.name, run.unit); total > tallest {
				tallest = total
			}
		}
		chart, err := plotter.NewBarChart(values, 34)
		if err != nil {
			return nil, err
		}
		chart.Color, chart.LineStyle.Width = plotutil.Color(i), 0
		if below != nil {
			chart.StackOn(below)
		}
		below = chart
		p.Add(chart)
		p.Legend.Add(part, chart)
	}
	p.Y.Max = max(tallest, 1) * 1.35 // room for the legend
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	return svg(p, vg.Length(110+85*len(runs)), 280)
}

func throughputPlot(r *results) ([]byte, error) {
	const one = "Throughput/files=1"
	return bars("Throughput", "MB/s", []measure{
		{"cp", one, "cp-MB/s"}, {"dd, fsynced", one, "dd-fsync-MB/s"}, {"raw publish", one, "raw-publish-MB/s"},
		{"1 file", one, "MB/s"}, {"compressed", "Throughput/s2", "MB/s"}, {"200 files", "Throughput/files=200", "MB/s"}, {"10,000 files", "Throughput/files=10000", "MB/s"},
	}, r)
}

func cpuPlot(r *results) ([]byte, error) {
	const unit = "CPU-s/GiB"
	return stacked("Cost by process", "CPU seconds per GiB", []measure{
		{"1 file", "Throughput/files=1", unit}, {"compressed", "Throughput/s2", unit}, {"200 files", "Throughput/files=200", unit}, {"10,000 files", "Throughput/files=10000", unit},
		{"zstd", "Compression/zstd", unit}, {"3 copies", "Replicas/copies=3", unit}, {"2 sites", "Sites/sites=2", unit},
	}, []string{"forward", "broker", "receive"}, r)
}

// line adds one named line of points to a plot.
func addLine(p *plot.Plot, i int, name string, points plotter.XYs) error {
	if len(points) == 0 {
		return nil
	}
	l, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	l.Color, marks.Color, marks.Shape = plotutil.Color(i), plotutil.Color(i), plotutil.Shape(i)
	p.Add(l, marks)
	p.Legend.Add(name, l, marks)
	return nil
}

func latencyPlot(r *results) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = "From a line's write to the central file, 5,000 lines/s", "ms"
	p.Legend.Top, p.Legend.Left = true, true
	at := []string{"p50", "p90", "p99", "p99.9", "max"}
	names := map[string]string{"logforward": "Latency"}
	order := []string{"logforward"}
	for _, peer := range r.below("PeersLatency") {
		names[peer] = "PeersLatency/" + peer
		order = append(order, peer)
	}
	for i, name := range order {
		var points plotter.XYs
		for x, q := range at {
			if v, ok := r.value(names[name], q+"-ms"); ok && v > 0 {
				points = append(points, plotter.XY{X: float64(x), Y: v})
			}
		}
		if err := addLine(p, i, name, points); err != nil {
			return nil, err
		}
	}
	p.NominalX(at...)
	if p.Y.Min > 0 && p.Y.Max < math.Inf(1) && p.Y.Max > p.Y.Min {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
		p.Y.Max *= 10 // room for the legend
	}
	return svg(p, 520, 320)
}

func chunkPlot(r *results) ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text, p.Y.Min = "Cost against the size of messages", "chunk_size, KiB", "CPU seconds per GiB", 0
	p.Legend.Top = true
	var ticks plot.ConstantTicks
	for i, part := range []string{"", "broker-", "forward-", "receive-"} {
		var points plotter.XYs
		for _, name := range r.below("ChunkSize") {
			size, _ := strings.CutPrefix(name, "KiB=")
			kib, err := strconv.ParseFloat(size, 64)
			if err != nil {
				return nil, err
			}
			if v, ok := r.value("ChunkSize/"+name, part+"CPU-s/GiB"); ok {
				points = append(points, plotter.XY{X: kib, Y: v})
			}
			if i == 0 {
				ticks = append(ticks, plot.Tick{Value: kib, Label: size})
			}
		}
		name := strings.TrimSuffix(part, "-")
		if name == "" {
			name = "all"
		}
		if err := addLine(p, i, name, points); err != nil {
			return nil, err
		}
	}
	if len(ticks) > 1 {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks
	}
	return svg(p, 520, 300)
}

func recoveryPlot(r *results) ([]byte, error) {
	var figures []measure
	for _, fault := range r.below("Recovery") {
		label := strings.ReplaceAll(strings.Replace(strings.Replace(fault, "kill-9-", "kill 9-", 1), "-", "\n", 1), "-", " ")
		figures = append(figures, measure{strings.Replace(label, "kill 9", "kill -9", 1), "Recovery/" + fault, "recovery-s"})
	}
	return bars("Recovery after one fault", "s", figures, r)
}

func peersPlot(r *results) ([]byte, error) {
	var figures []measure
	for _, peer := range r.below("Peers") {
		figures = append(figures, measure{peer, "Peers/" + peer, "CPU-s/GiB"})
	}
	return bars("The same file with others: cost", "CPU seconds per GiB", figures, r)
}
