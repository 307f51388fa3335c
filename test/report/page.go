package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed performance.md.tmpl rest.md.tmpl
var texts embed.FS

// page makes docs/performance.md of results.
type page struct {
	*results
	recovery []recovery // of the correctness matrix, if there is one
	missing  []string   // what the page wanted to show and wasn't measured
}

// recovery is how long one fault of the correctness matrix took to heal, in seconds.
type recovery struct {
	Fault    string `json:"fault"`
	Skipped  string `json:"skipped"` // why it wasn't tried
	Recovery struct {
		Median float64 `json:"median"`
		Most   float64 `json:"most"`
	} `json:"recovery"`
}

// correctness reads what make chaos wrote; that it isn't there is no error.
func correctness(path string) ([]recovery, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var x struct {
		Faults []recovery `json:"faults"`
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return slices.DeleteFunc(x.Faults, func(r recovery) bool { return r.Skipped != "" || r.Recovery.Most == 0 }), nil
}

// text is the page. Call missed afterwards.
func (p *page) text() ([]byte, error) {
	t, err := template.New("performance.md.tmpl").Funcs(template.FuncMap{
		"fig": p.figure, "span": p.span, "below": p.variants, "fact": p.fact, "targets": p.targets, "peers": p.peers,
		"share": p.share, "busy": p.busy, "number": number, "of": of,
	}).ParseFS(texts, "*.tmpl")
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := t.Execute(&body, p); err != nil {
		return nil, err
	}
	return bytes.ReplaceAll(body.Bytes(), []byte(headMark), []byte(p.complaint())), nil
}

// Facts are those of the run.
func (p *page) Facts() map[string]string { return p.facts }

// Recovery is what the correctness matrix says.
func (p *page) Recovery() []recovery { return p.recovery }

// Loads and LoadNames are what throughput was measured with, and the benchmarks' names of that.
func (p *page) Loads() []string {
	return []string{"one file of 1 GiB", "the same, compressed with S2", "200 files", "10,000 files"}
}

func (p *page) LoadNames() []string {
	return []string{"Throughput/files=1", "Throughput/s2", "Throughput/files=200", "Throughput/files=10000"}
}

// PeersMeasured tells whether there were others to compare with.
func (p *page) PeersMeasured() bool { return len(p.below("Peers")) > 1 }

// headMark is where the page says what it lacks, which is known at its end only.
const headMark = "<!-- lacks -->\n"

func (p *page) complaint() string {
	var text strings.Builder
	for _, f := range p.failed() {
		fmt.Fprintf(&text, "**FAILED in this run: %s**\n\n", f)
	}
	if len(p.missing) > 0 {
		fmt.Fprintf(&text, "**MISSING in this run: %s**\n\n", strings.Join(p.missing, ", "))
	}
	return text.String()
}

// missed is an error that names what failed or wasn't measured.
func (p *page) missed() error {
	var err error
	for _, f := range p.failed() {
		err = errors.Join(err, errors.New("failed: "+f))
	}
	if len(p.missing) > 0 {
		err = errors.Join(err, fmt.Errorf("missing: %s", strings.Join(p.missing, ", ")))
	}
	return err
}

func (p *page) miss(what string) string {
	if !slices.Contains(p.missing, what) {
		p.missing = append(p.missing, what)
	}
	return "**missing**"
}

func (p *page) figure(name, unit string) string {
	v, ok := p.value(name, unit)
	if !ok {
		return p.miss(name + " " + unit)
	}
	return number(v)
}

// span is a figure with the least and the greatest of its repetitions.
func (p *page) span(name, unit string) string {
	text := p.figure(name, unit)
	if all := p.values[name][unit]; len(all) > 1 {
		text += fmt.Sprintf(" (%s–%s)", number(slices.Min(all)), number(slices.Max(all)))
	}
	return text
}

// share is what part of one figure another is, in per cent.
func (p *page) share(name, part, whole string) string {
	a, ok := p.value(name, part)
	b, ok2 := p.value(name, whole)
	if !ok || !ok2 || b == 0 {
		return p.miss(name + " " + part + " of " + whole)
	}
	return fmt.Sprintf("%.0f %%", 100*a/b)
}

// busy is how many cores a load keeps busy while its bytes are on the way.
func (p *page) busy(name string) string {
	cost, ok := p.value(name, "CPU-s/GiB")
	speed, ok2 := p.value(name, "confirmed-MB/s")
	if !ok || !ok2 {
		return p.miss(name + " CPU-s/GiB and confirmed-MB/s")
	}
	return number(cost * speed * 1e6 / (1 << 30))
}

// of is the value in key=value.
func of(variant string) string {
	_, value, _ := strings.Cut(variant, "=")
	return value
}

// number has about three digits.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1e6 || v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (p *page) variants(name string) []string {
	list := p.below(name)
	if len(list) == 0 {
		p.miss(name)
	}
	return list
}

func (p *page) fact(key string) string {
	if v := p.facts[key]; v != "" {
		return v
	}
	return "unknown"
}

// comparison is one of the programs that are compared.
type comparison struct {
	Name     string
	Measured bool
}

// peers are all that are compared, measured or not: a machine needn't have them.
func (p *page) peers(benchmark string) (list []comparison) {
	measured := p.below(benchmark)
	for _, name := range []string{"logforward", "rsyslog-relp", "rsyslog-tcp", "syslog-ng", "syslog-ng-disk"} {
		list = append(list, comparison{name, slices.Contains(measured, name)})
	}
	if len(measured) == 0 && (p.PeersMeasured() || benchmark != "PeersLatency") { // of others alone
		p.miss(benchmark)
	}
	return list
}

// write makes the page, its plots and the raw results in a directory.
func (p *page) write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "performance"), 0o755); err != nil {
		return err
	}
	text, err := p.text()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "performance.md"), text, 0o644); err != nil {
		return err
	}
	for name, draw := range plots {
		svg, err := draw(p.results)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "performance", name+".svg"), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}
