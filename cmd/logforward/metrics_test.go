package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"logforward/internal/control"
)

var update = flag.Bool("update", false, "write docs/metrics.md and docs/json.md anew")

// What a forwarder, a receiver and the text file of a node really show is what docs/metrics.md says, and nothing else.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	nodePort, centrePort, texts := freePort(t), freePort(t), t.TempDir()
	write(t, s.config, read(t, s.config)+"metrics_listen = 127.0.0.1:"+nodePort+"\n")
	s.append("app.log", "one\n")
	s.define("app", "log: app\npath: LOGS/app.log\nstart: beginning\n")
	s.startBroker()
	if code, out, errText := once(t, "setup", "--url", s.url, "--partitions", "2"); code != 0 {
		t.Fatalf("setup: %d %s %s", code, out, errText)
	}
	start(t, "receive", "--url", s.url, "--output", s.output, "--state", s.dir+"/receive", "--receiver", "r1", "--rotate-every", "0", "--metrics-listen", "127.0.0.1:"+centrePort)
	s.startNode()
	stands := func(confirmed uint64, lag int64) func() bool {
		return func() bool {
			var status control.StatusReply
			s.ask(&status, "status", "app")
			return len(status.Logs) == 1 && status.Logs[0].Confirmed == confirmed && status.Logs[0].LagBytes == lag
		}
	}
	eventually(t, "the first line is confirmed", stands(4, 0))
	var reply control.Reply
	s.ask(&reply, "pause", "app", "--reason", "so that a decision has been counted")
	s.append("app.log", "two\n")
	eventually(t, "the second one waits", stands(4, 4))

	node, centre := scraped(t, "http://127.0.0.1:"+nodePort+"/metrics"), scraped(t, "http://127.0.0.1:"+centrePort+"/metrics")
	if code, out, errText := once(t, "check", "--metrics", "--textfiles", texts, "--config", s.config); code != 0 {
		t.Fatalf("check: %d %s %s", code, out, errText)
	}
	text := parsed(t, strings.NewReader(read(t, filepath.Join(texts, "logforward.prom"))))

	for name, want := range map[string]float64{
		"logforward_forward_confirmed_bytes_total": 4, "logforward_forward_lag_bytes": 4, "logforward_forward_connected": 1, "logforward_policy_in_force": 1,
	} {
		if got := value(t, node, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"logforward_receive_bytes_total": 4, "logforward_receive_working_partitions": 2, "logforward_receive_partitions": 2} {
		if got := value(t, centre, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := value(t, text, "logforward_node_lag_bytes"); got != 4 {
		t.Errorf("logforward_node_lag_bytes is %v, want 4", got)
	}

	var b strings.Builder
	for _, part := range []struct {
		about    string
		families map[string]*dto.MetricFamily
	}{
		{"## A node\n\nAt `/metrics` of `metrics_listen`, and of the socket.", node},
		{"## A receiver\n\nAt `/metrics` of `metrics_listen`.", centre},
		{"## A node, by its node exporter\n\n`logforward.prom`, which `logforward check --metrics` writes and the autonomous agent `logforward_metrics` has written each minute: for nodes that nothing is opened at. Each number is of all logs of the node.", text},
	} {
		fmt.Fprintf(&b, "\n%s\n\n| metric | type | labels | |\n|---|---|---|---|\n", part.about)
		for _, name := range slices.Sorted(maps.Keys(part.families)) {
			f := part.families[name]
			if f.GetHelp() == "" {
				t.Errorf("%s has no help", name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), labels(f), f.GetHelp())
		}
	}
	const page, mark = "../../docs/metrics.md", "\n<!-- What follows is made by: make docs -->\n"
	before, got, _ := strings.Cut(read(t, page), mark)
	if *update {
		write(t, page, before+mark+b.String())
	} else if got != b.String() {
		t.Errorf("docs/metrics.md differs from what is shown: run make docs\n%s", b.String())
	}
}

// scraped are the program's own metrics at an address; what Go and Prometheus' library add is documented elsewhere.
func scraped(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	return parsed(t, reply.Body)
}

func parsed(t *testing.T, from io.Reader) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(from)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "logforward_") })
	return families
}

func value(t *testing.T, families map[string]*dto.MetricFamily, name string) float64 {
	t.Helper()
	f := families[name]
	if f == nil || len(f.Metric) != 1 {
		t.Fatalf("%s: %v, want one value", name, f)
	}
	m := f.Metric[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

func labels(f *dto.MetricFamily) string {
	var names []string
	for _, l := range f.Metric[0].Label {
		names = append(names, "`"+l.GetName()+"`")
	}
	return strings.Join(names, ", ")
}
