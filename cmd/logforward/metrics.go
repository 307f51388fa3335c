package main

import (
	"context"
	"time"

	"logforward/internal/control"
)

// metricsTime is less than the second that Choria's metric watcher gives its command.
const metricsTime = 700 * time.Millisecond

// metrics are what Choria's metric watcher takes.
type metrics struct {
	Labels  map[string]string  `json:"labels"`
	Metrics map[string]float64 `json:"metrics"`
}

// showMetrics prints how much this node forwards. A daemon that isn't there has a metric, too.
func (p *program) showMetrics(ctx context.Context, client *control.Client) error {
	client.Timeout = metricsTime
	m := metrics{Labels: map[string]string{}, Metrics: map[string]float64{"up": 0}}
	if s, err := client.Status(ctx, control.StatusRequest{}); err == nil {
		m.Metrics = measure(s)
	}
	return p.print(m)
}

// measure sums up a status over all logs. Positions of a log that begins a new epoch count from zero again.
func measure(s control.StatusReply) map[string]float64 {
	m := map[string]float64{
		"up": 1, "logs": float64(len(s.Logs)), "problems": float64(len(s.Problems)), "logs_failed": 0, "logs_paused": 0, "destinations_down": 0,
		"lag_bytes": 0, "lag_seconds": 0, "confirmed_bytes": 0, "bytes_per_second": 0, "gaps": 0, "gap_bytes": 0, "resends": 0,
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
