package forward

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters of one log, in this run. Others read them at any time.
type counters struct {
	handed       atomic.Uint64 // bytes and gap positions, less what a new epoch took back
	acknowledged atomic.Uint64
	gap          atomic.Uint64 // positions
	gaps         atomic.Uint64
	sent         atomic.Uint64 // bytes published, again or not
	repeated     atomic.Uint64 // of these: not for the first time
	kept         atomic.Uint64 // bytes acknowledged by the broker
	messages     atomic.Uint64
	rounds       atomic.Uint64
	resends      atomic.Uint64
	forks        atomic.Uint64
	seals        atomic.Uint64 // published, again or not
}

func (c *counters) read(n uint64) { c.handed.Add(n) }

func (c *counters) readGap(n, gaps uint64) {
	c.handed.Add(n)
	c.gap.Add(n)
	c.gaps.Add(gaps)
}

// becameGap: bytes that were handed out are a gap now.
func (c *counters) becameGap(bytes uint64) {
	c.gap.Add(bytes)
	c.gaps.Add(1)
}

func (c *counters) unread(bytes, gap, gaps uint64) {
	c.handed.Add(-(bytes + gap))
	c.gap.Add(-gap)
	c.gaps.Add(-gaps)
}

// wereCentral: positions of gaps turned out to be at the centre, which so has no gap there.
func (c *counters) wereCentral(positions, gaps uint64) {
	c.gap.Add(-positions)
	c.gaps.Add(-gaps)
	c.acknowledged.Add(positions)
}

func (c *counters) confirmed(bytes uint64) { c.acknowledged.Add(bytes) }
func (c *counters) stored(bytes uint64)    { c.kept.Add(bytes) }
func (c *counters) round()                 { c.rounds.Add(1) }
func (c *counters) resend()                { c.resends.Add(1) }
func (c *counters) fork()                  { c.forks.Add(1) }
func (c *counters) sealed()                { c.seals.Add(1) }

func (c *counters) published(bytes uint64, again bool) {
	c.messages.Add(1)
	c.sent.Add(bytes)
	if again {
		c.repeated.Add(bytes)
	}
}

// metrics collects the counters of all logs that run.
type metrics struct {
	engine      *Engine
	perLog      []logMetric
	unconfirmed *prometheus.Desc
	lagBytes    *prometheus.Desc
	lagSeconds  *prometheus.Desc
	connected   *prometheus.Desc
	window      *prometheus.Desc
	logs        *prometheus.Desc
}

type logMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*counters) uint64
}

func newMetrics(e *Engine) *metrics {
	m := &metrics{engine: e}
	counter := func(name, help string, value func(*counters) uint64) {
		m.perLog = append(m.perLog, logMetric{
			prometheus.NewDesc("logforward_forward_"+name, help, []string{"log", "destination"}, nil), prometheus.CounterValue, value,
		})
	}
	// What was handed out can be taken back, by a new epoch: it is no counter.
	m.perLog = append(m.perLog, logMetric{
		prometheus.NewDesc("logforward_forward_handed_out_positions", "Positions handed out: confirmed, unconfirmed and gaps.", []string{"log", "destination"}, nil),
		prometheus.GaugeValue, func(c *counters) uint64 { return c.handed.Load() },
	})
	counter("published_bytes_total", "Bytes published, repetitions included.", func(c *counters) uint64 { return c.sent.Load() })
	counter("repeated_bytes_total", "Bytes published not for the first time.", func(c *counters) uint64 { return c.repeated.Load() })
	counter("published_messages_total", "Messages published.", func(c *counters) uint64 { return c.messages.Load() })
	counter("stored_bytes_total", "Bytes acknowledged by the broker.", func(c *counters) uint64 { return c.kept.Load() })
	counter("confirmed_bytes_total", "Bytes that count as delivered.", func(c *counters) uint64 { return c.acknowledged.Load() })
	counter("gaps_total", "Ranges that were lost on this node.", func(c *counters) uint64 { return c.gaps.Load() })
	counter("gap_positions_total", "Positions that gaps take.", func(c *counters) uint64 { return c.gap.Load() })
	counter("rounds_total", "Times that publishing went back.", func(c *counters) uint64 { return c.rounds.Load() })
	counter("resends_total", "Times that a receiver asked to go back.", func(c *counters) uint64 { return c.resends.Load() })
	counter("forks_total", "Times that the centre had other bytes at positions of this log.", func(c *counters) uint64 { return c.forks.Load() })
	counter("seals_total", "Seals published, repetitions included; 0 where the destination isn't sealed.", func(c *counters) uint64 { return c.seals.Load() })
	gauge := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("logforward_forward_"+name, help, []string{"log", "destination"}, nil)
	}
	m.unconfirmed = gauge("unconfirmed_bytes", "Bytes handed out and not confirmed.")
	m.lagBytes = gauge("lag_bytes", "Bytes in the log's files that aren't confirmed, read or not.")
	m.lagSeconds = gauge("lag_seconds", "Time since the oldest bytes that aren't confirmed were seen.")
	m.connected = prometheus.NewDesc("logforward_forward_connected", "1 while the destination is connected.", []string{"destination"}, nil)
	m.window = prometheus.NewDesc("logforward_forward_window_bytes", "Bytes published and not answered.", []string{"destination"}, nil)
	m.logs = prometheus.NewDesc("logforward_forward_logs", "Logs by what they do.", []string{"state"}, nil)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, l := range m.perLog {
		ch <- l.desc
	}
	ch <- m.unconfirmed
	ch <- m.lagBytes
	ch <- m.lagSeconds
	ch <- m.connected
	ch <- m.window
	ch <- m.logs
}

// Collect implements prometheus.Collector. It waits for the forwarders no longer than [Engine.Status] does, so a scrape isn't held up.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	stands := m.engine.Status()
	m.engine.mu.Lock()
	stats := make(map[string]*counters, len(m.engine.runs))
	for name, f := range m.engine.runs {
		stats[name] = f.stats
	}
	m.engine.mu.Unlock()
	states := map[string]float64{}
	for _, s := range stands {
		states[s.State]++
		c := stats[s.Log]
		if c == nil {
			continue // its definition is refused, or it has just ended
		}
		for _, l := range m.perLog {
			ch <- prometheus.MustNewConstMetric(l.desc, l.kind, float64(l.value(c)), s.Log, s.Destination)
		}
		ch <- prometheus.MustNewConstMetric(m.unconfirmed, prometheus.GaugeValue, float64(s.Unconfirmed), s.Log, s.Destination)
		ch <- prometheus.MustNewConstMetric(m.lagBytes, prometheus.GaugeValue, float64(s.LagBytes), s.Log, s.Destination)
		ch <- prometheus.MustNewConstMetric(m.lagSeconds, prometheus.GaugeValue, s.LagSeconds, s.Log, s.Destination)
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(m.logs, prometheus.GaugeValue, n, state)
	}
	for _, d := range m.engine.Destinations() {
		up := 0.0
		if d.Connected {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(m.connected, prometheus.GaugeValue, up, d.Name)
		ch <- prometheus.MustNewConstMetric(m.window, prometheus.GaugeValue, float64(d.InFlight), d.Name)
	}
}
