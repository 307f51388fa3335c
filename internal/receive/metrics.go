package receive

import "github.com/prometheus/client_golang/prometheus"

// metrics of one receiver. They are kept also where nobody collects them.
type metrics struct {
	bytes, duplicates, holes, forks                 prometheus.Counter
	gaps, gapPositions, moved                       prometheus.Counter
	quarantined, quarantineDropped                  prometheus.Counter
	commits, syncs, syncsDropped, expired, squeezed prometheus.Counter
	commitSeconds                                   prometheus.Histogram
	stalled, hung, working, partitions, aside       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "logforward", Subsystem: "receive", Name: name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metrics{
		bytes:             counter("bytes_total", "Bytes appended to central files."),
		duplicates:        counter("duplicate_chunks_total", "Chunks that were there already."),
		holes:             counter("hole_chunks_total", "Chunks whose predecessor was missing."),
		forks:             counter("fork_chunks_total", "Chunks that didn't continue what was there, or were of an epoch that is over."),
		gaps:              counter("gaps_total", "Ranges that nodes declared lost."),
		gapPositions:      counter("gap_positions_total", "Positions in ranges that nodes declared lost."),
		moved:             counter("moved_chunks_total", "Chunks that lay in another partition's stream and were moved to theirs."),
		quarantined:       counter("quarantined_messages_total", "Messages that could not be used."),
		quarantineDropped: counter("quarantine_dropped_messages_total", "Messages that could not be used and that the full quarantine didn't keep."),
		commits:           counter("commits_total", "Commits."),
		syncs:             counter("syncs_total", "Hellos of nodes that were read."),
		syncsDropped:      counter("syncs_dropped_total", "Hellos that were not read because too many came at once."),
		expired:           counter("expired_files_total", "Closed files that retention deleted."),
		squeezed:          counter("compressed_files_total", "Closed files that were compressed."),
	}
	m.commitSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "logforward", Subsystem: "receive", Name: "commit_seconds",
		Help: "Time from a commit's begin to its acknowledgements.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)})
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "logforward", Subsystem: "receive", Name: name, Help: help})
		all = append(all, g)
		return g
	}
	m.stalled = gauge("stalled_partitions", "Partitions that wait for the disk.")
	m.hung = gauge("disk_hung", "1 while an operation on the disk hasn't come back for longer than disk_timeout, and the receiver's heart stands still.")
	m.working = gauge("working_partitions", "Partitions that this receiver works.")
	m.partitions = gauge("partitions", "Partitions of the layout: all receivers together work as many where all is well.")
	m.aside = gauge("set_aside_bytes", "Bytes that are set aside, for nobody could know whether they were committed, until they are central.")
	all = append(all, m.commitSeconds)
	if reg != nil {
		for _, c := range all {
			// Two receivers in one process (tests, benchmarks) may share a registry: the first is shown.
			_ = reg.Register(c)
		}
	}
	return m
}
