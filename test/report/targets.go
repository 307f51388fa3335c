package main

import "fmt"

// target is what is wanted of a figure.
type target struct {
	what       string
	name, unit string // of the benchmark
	least      bool   // else: most
	limit      float64
	shown      string // the limit, with its unit
}

var wanted = []target{
	{"one file of 180-byte lines, against `cp`", "Throughput/files=1", "of-cp", true, 0.15, "≥ 0.15 of `cp`"},
	{"the same, CPU of all processes", "Throughput/files=1", "CPU-s/GiB", false, 5, "≤ 5 CPU-s/GiB"},
	{"the same, CPU of the forwarder", "Throughput/files=1", "forward-CPU-s/GiB", false, 0.9, "≤ 0.9 CPU-s/GiB"},
	{"the same, CPU of the receiver", "Throughput/files=1", "receive-CPU-s/GiB", false, 1.2, "≤ 1.2 CPU-s/GiB"},
	{"forwarder with 200 quiet files, CPU in 15 s", "Idle", "forward-CPU-s-in-15-s", false, 0.005, "≤ 0.005 s"},
	{"the same, resident memory", "Idle", "forward-resident-MB", false, 20, "≤ 20 MB"},
	{"Choria's agent, from its start to its end, half of the requests", "Request", "p50-ms", false, 30, "≤ 30 ms"},
	{"5,000 lines/s, from write to central file, half of the lines", "Latency", "p50-ms", false, 2, "≤ 2 ms"},
	{"the same, 99 % of the lines", "Latency", "p99-ms", false, 6, "≤ 6 ms"},
	{"the same, CPU of all processes in 10 s", "Latency", "CPU-s", false, 2, "≤ 2.0 s"},
	{"red button, 95 % of 1,000 nodes have stopped", "RedButton", "pause-p95-s", false, 2, "≤ 2 s"},
	{"the same, all of them", "RedButton", "pause-max-s", false, 5, "≤ 5 s"},
}

// verdict is a row of the table of targets.
type verdict struct{ What, Wanted, Measured, Met string }

func (p *page) targets() (rows []verdict) {
	for _, t := range wanted {
		v, ok := p.value(t.name, t.unit)
		row := verdict{t.what, t.shown, p.span(t.name, t.unit), "**not measured**"}
		switch {
		case !ok:
		case t.least && v >= t.limit, !t.least && v <= t.limit:
			row.Met = "yes"
		default:
			row.Met = fmt.Sprintf("**no**, %s times the target", number(v/t.limit))
		}
		rows = append(rows, row)
	}
	return rows
}
