package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"logforward/internal/choria"
	"logforward/internal/control"
)

// metricsTime is less than the second that Choria's metric watcher gives its command.
const metricsTime = 700 * time.Millisecond

// metrics are what Choria's metric watcher takes.
type metrics struct {
	Labels  map[string]string  `json:"labels"`  // always empty
	Metrics map[string]float64 `json:"metrics"` // numbers of the node, each of all its logs
}

// showMetrics prints how much this node forwards, and writes the same for Prometheus' node exporter where it has a
// directory for that. A daemon that isn't there has a metric, too.
func (p *program) showMetrics(ctx context.Context, v *values) error {
	client := control.NewClient(v.Text("socket"))
	client.Timeout = metricsTime
	m := metrics{Labels: map[string]string{}, Metrics: map[string]float64{"up": 0}}
	if s, err := client.Status(ctx, control.StatusRequest{}); err == nil {
		m.Metrics = measure(s, time.Now())
	}
	if dir := textFiles(v); dir != "" {
		m.Metrics["textfile_written"] = 1
		if err := writeTextFile(filepath.Join(dir, "logforward.prom"), m.Metrics); err != nil {
			m.Metrics["textfile_written"] = 0 // the watcher takes numbers, and would take a word for a broken number
		}
	}
	return p.print(m)
}

// textFiles is the directory that is set, or that of the node's own Choria Server; empty: none.
func textFiles(v *values) string {
	if dir := v.Text("textfiles"); dir != "" {
		return dir
	}
	c, err := choria.Load(ownChoria)
	if err != nil {
		return ""
	}
	return c.TextFiles
}

// numbersHelp says what the numbers of a node are; each is of all its logs.
var numbersHelp = map[string]string{
	"up":                "1 while the daemon answers; else there are no other numbers.",
	"uptime_seconds":    "How long the daemon runs.",
	"logs":              "Logs that are defined, and operators'.",
	"logs_failed":       "Logs that can't be forwarded.",
	"logs_paused":       "Logs that are paused.",
	"problems":          "Problems that status lists: broken definitions, a policy that is missing, and the like.",
	"destinations_down": "Destinations that logs go to and that aren't connected.",
	"lag_bytes":         "Bytes in the logs' files that aren't confirmed.",
	"lag_seconds":       "Time since the oldest bytes that aren't confirmed were seen.",
	"confirmed_bytes":   "Positions that are confirmed. A log that begins a new epoch counts from zero again.",
	"bytes_per_second":  "Bytes sent, smoothed over some seconds.",
	"gaps":              "Ranges that were lost on this node since the daemon started.",
	"gap_bytes":         "Positions that gaps took since the daemon started.",
	"resends":           "Times that a receiver asked to go back since the daemon started.",
	"textfile_written":  "1: this file could be written.",
}

// writeTextFile replaces a file as Prometheus' node exporter reads it.
func writeTextFile(name string, numbers map[string]float64) error {
	r := prometheus.NewRegistry()
	for what, n := range numbers {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "logforward", Subsystem: "node", Name: what, Help: numbersHelp[what]})
		g.Set(n)
		if err := r.Register(g); err != nil {
			return err
		}
	}
	return prometheus.WriteToTextfile(name, r)
}

// measure sums up a status over all logs. Positions of a log that begins a new epoch count from zero again.
func measure(s control.StatusReply, now time.Time) map[string]float64 {
	m := map[string]float64{
		"up": 1, "logs": float64(len(s.Logs)), "problems": float64(len(s.Problems)), "logs_failed": 0, "logs_paused": 0, "destinations_down": 0,
		"uptime_seconds": max(0, now.Sub(s.Started).Seconds()), "lag_bytes": 0, "lag_seconds": 0, "confirmed_bytes": 0, "bytes_per_second": 0, "gaps": 0, "gap_bytes": 0, "resends": 0,
	}
	for _, l := range s.Logs {
		switch l.State {
		case "failed":
			m["logs_failed"]++
		case "paused":
			m["logs_paused"]++
		}
		m["lag_bytes"] += float64(l.LagBytes)
		m["lag_seconds"] = max(m["lag_seconds"], l.LagSeconds)
		m["confirmed_bytes"] += float64(l.Confirmed)
		m["bytes_per_second"] += l.Rate
		m["gaps"] += float64(l.Gaps)
		m["gap_bytes"] += float64(l.GapBytes)
		m["resends"] += float64(l.Resends)
	}
	for _, d := range s.Destinations {
		if !d.Connected && d.Logs > 0 {
			m["destinations_down"]++
		}
	}
	return m
}
