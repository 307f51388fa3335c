// Package alerts has the alerts that are offered to a site's Prometheus evaluated by Prometheus itself.
package alerts

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const file, page = "../../docs/prometheus/alerts.yml", "../../docs/metrics.md"

// healthy is a site where all is well, in Prometheus' notation: a value, and what each minute adds to it.
const healthy = `load 1m
  logforward_node_up{instance="n1"} 1x60
  logforward_node_destinations_down{instance="n1"} 0x60
  logforward_node_logs_failed{instance="n1"} 0x60
  logforward_node_lag_seconds{instance="n1"} 0x60
  logforward_forward_connected{instance="n1",destination="central"} 1x60
  logforward_forward_logs{instance="n1",state="idle"} 3x60
  logforward_forward_lag_seconds{instance="n1",log="app",destination="central"} 2x60
  logforward_forward_forks_total{instance="n1",log="app",destination="central"} 1x60
  logforward_policy_in_force{instance="n1"} 1x60
  logforward_audit_writable{instance="n1"} 1x60
  logforward_receive_gaps_total{instance="r1",job="receive"} 4x60
  logforward_receive_partitions{instance="r1",job="receive"} 4x60
  logforward_receive_partitions{instance="r2",job="receive"} 4x60
  logforward_receive_working_partitions{instance="r1",job="receive"} 2x60
  logforward_receive_working_partitions{instance="r2",job="receive"} 2x60
  logforward_receive_disk_hung{instance="r1",job="receive"} 0x60
  logforward_receive_stalled_partitions{instance="r1",job="receive"} 0x60
  logforward_receive_quarantined_messages_total{instance="r1",job="receive"} 7x60
  logforward_receive_set_aside_bytes{instance="r1",job="receive"} 0x30 5x5 0x25
  logforward_receive_commit_seconds_bucket{instance="r1",job="receive",le="4.096"} 0+60x60
  logforward_receive_commit_seconds_bucket{instance="r1",job="receive",le="8.192"} 0+60x60
  logforward_receive_commit_seconds_bucket{instance="r1",job="receive",le="+Inf"} 0+60x60
`

// faults are what each alert is for. Each series stands for the healthy one, from the beginning on.
var faults = map[string][]string{
	"LogforwardDown":          {`logforward_node_up{instance="n1"} 0x60`},
	"LogforwardDisconnected":  {`logforward_forward_connected{instance="n1",destination="central"} 0x60`, `logforward_node_destinations_down{instance="n1"} 1x60`},
	"LogforwardLogFailed":     {`logforward_forward_logs{instance="n1",state="failed"} 1x60`, `logforward_node_logs_failed{instance="n1"} 1x60`},
	"LogforwardLag":           {`logforward_forward_lag_seconds{instance="n1",log="app",destination="central"} 90x60`, `logforward_node_lag_seconds{instance="n1"} 90x60`},
	"LogforwardLagLong":       {`logforward_forward_lag_seconds{instance="n1",log="app",destination="central"} 0+60x60`, `logforward_node_lag_seconds{instance="n1"} 0+60x60`},
	"LogforwardFork":          {`logforward_forward_forks_total{instance="n1",log="app",destination="central"} 1+1x60`},
	"LogforwardNoPolicy":      {`logforward_policy_in_force{instance="n1"} 0x60`},
	"LogforwardAuditLog":      {`logforward_audit_writable{instance="n1"} 0x60`},
	"LogforwardGap":           {`logforward_receive_gaps_total{instance="r1",job="receive"} 4x55 5x5`},
	"LogforwardPartitionIdle": {`logforward_receive_working_partitions{instance="r2",job="receive"} 1x60`, `logforward_receive_working_partitions{instance="r2",job="receive"} _x60`},
	"LogforwardDiskHung":      {`logforward_receive_disk_hung{instance="r1",job="receive"} 1x60`},
	"LogforwardDiskFull":      {`logforward_receive_stalled_partitions{instance="r1",job="receive"} 1x60`},
	"LogforwardQuarantine":    {`logforward_receive_quarantined_messages_total{instance="r1",job="receive"} 7x55 8x5`},
	"LogforwardSetAside":      {`logforward_receive_set_aside_bytes{instance="r1",job="receive"} 5x60`},
	"LogforwardSlowCommits":   {`logforward_receive_commit_seconds_bucket{instance="r1",job="receive",le="4.096"} 0x60`},
}

func TestEachAlertFiresForItsFaultOnly(t *testing.T) {
	group := parsed(t)
	// Lag of minutes shows in both alerts about lag.
	along := map[string]string{"LogforwardLagLong": "LogforwardLag"}
	if got := firing(t, group, healthy); len(got) != 0 {
		t.Errorf("where all is well: %v", got)
	}
	for name, series := range faults {
		for _, one := range series {
			got := firing(t, group, with(t, one))
			if !slices.Contains(got, name) {
				t.Errorf("%s: %s doesn't fire, but %v", one, name, got)
			}
			for _, other := range got {
				if other != name && other != along[name] {
					t.Errorf("%s: %s fires, too", one, other)
				}
			}
		}
	}
	for _, r := range group {
		if faults[r.Alert] == nil {
			t.Errorf("%s has no fault here", r.Alert)
		}
	}
}

// No receiver at all shows nothing that could be compared.
func TestAbsentReceiversAreMissed(t *testing.T) {
	lines := regexp.MustCompile(`(?m)^  logforward_receive.*\n`)
	if got := firing(t, parsed(t), lines.ReplaceAllString(healthy, "")); !slices.Equal(got, []string{"LogforwardPartitionIdle"}) {
		t.Errorf("%v", got)
	}
}

func TestAlertsAreAboutDocumentedMetrics(t *testing.T) {
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(logforward_[a-z_]+)` \\| (\\w+) ").FindAllStringSubmatch(string(b), -1) {
		documented[m[1]] = true
		if m[2] == "histogram" {
			documented[m[1]+"_bucket"] = true
		}
	}
	if len(documented) < 40 {
		t.Fatalf("only %d metrics are documented", len(documented))
	}
	for _, r := range parsed(t) {
		for _, name := range regexp.MustCompile(`logforward_[a-z_]+`).FindAllString(r.Expr, -1) {
			if !documented[name] {
				t.Errorf("%s asks for %s, which nothing shows", r.Alert, name)
			}
		}
		for _, what := range []string{"summary", "description"} {
			if r.Annotations[what] == "" {
				t.Errorf("%s has no %s", r.Alert, what)
			}
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
	}
}

// parsed gives all rules of the file, which includes that Prometheus takes their templates.
func parsed(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 {
		t.FailNow()
	}
	var list []rulefmt.Rule
	for _, g := range groups.Groups {
		list = append(list, g.Rules...)
	}
	return list
}

// with is the healthy site with one series in place of its own, or added.
func with(t *testing.T, series string) string {
	t.Helper()
	name := regexp.MustCompile(`^\S+`).FindString(series)
	own := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(name) + ` .*\n`)
	return own.ReplaceAllString(healthy, "") + "  " + series + "\n"
}

// firing are the names of the alerts that fire after an hour of evaluations, one each minute.
func firing(t *testing.T, list []rulefmt.Rule, input string) []string {
	t.Helper()
	storage := promqltest.LoadedStorage(t, input)
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6)
	query := rules.EngineQueryFunc(engine, storage)
	var names []string
	for _, r := range list {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr)
		if err != nil {
			t.Fatal(err)
		}
		rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels), labels.FromMap(r.Annotations), labels.EmptyLabels(), "", true, promslog.NewNopLogger())
		for minute := range 61 {
			if _, err := rule.Eval(t.Context(), 0, time.Unix(int64(60*minute), 0), query, nil, 0); err != nil {
				t.Fatalf("%s: %v", r.Alert, err)
			}
		}
		if slices.ContainsFunc(rule.ActiveAlerts(), func(a *rules.Alert) bool { return a.State == rules.StateFiring }) {
			names = append(names, r.Alert)
		}
		for _, a := range rule.ActiveAlerts() {
			a.Annotations.Range(func(l labels.Label) {
				if regexp.MustCompile(`(?i)error|{{|<no value>`).MatchString(l.Value) {
					t.Errorf("%s says %q", r.Alert, l.Value)
				}
			})
		}
	}
	return names
}
