package node

import (
	"fmt"
	"testing"
	"time"

	"logforward/internal/control"
)

// Starts and stops under ever new names don't fill memory and state; what holds is never forgotten, nor the history of
// what is still defined.
func TestWhatEndedIsForgottenInTheEnd(t *testing.T) {
	b := newBench(t)
	b.dest = []string{"central"}
	b.define("nginx.yaml", nginx)
	b.open()
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "runs", Path: b.file("runs.log")}))
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "stops", Path: b.file("stops.log")}))
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "stops", For: control.Duration(60 * 24 * time.Hour)}))
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "nginx"}))
	b.must(b.node.Resume(t.Context(), alice(), control.ResumeRequest{Log: "nginx"}))
	path := b.file("app.log")
	const more = 50
	b.node.mu.Lock()
	for i := range maxEnded + more { // as a start and a stop leave it
		said := control.Override{Verb: control.VerbStop, By: "choria=eve.mcollective", Since: b.now.Add(time.Duration(i) * time.Second)}
		if err := b.node.operators.put(fmt.Sprintf("app.%04d", i), &record{History: []control.Change{{Override: said}}}); err != nil {
			t.Fatal(err)
		}
	}
	b.node.mu.Unlock()
	b.now = b.now.Add(time.Hour)
	last := control.StartRequest{Log: "last", Path: path}
	b.must(b.node.Start(t.Context(), alice(), last))
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "last"}))
	have := func(what string, ended int, logs ...string) {
		t.Helper()
		onDisk := map[string]bool{}
		if err := b.store.Each(bucketOperators, func(log string, _ []byte) error { onDisk[log] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		if len(b.node.operators.records) != ended+3 || len(onDisk) != ended+3 {
			t.Errorf("%s: %d records in memory, %d on disk; want %d", what, len(b.node.operators.records), len(onDisk), ended+3)
		}
		for _, log := range append(logs, "runs", "stops", "nginx") {
			if b.node.operators.records[log] == nil || !onDisk[log] {
				t.Errorf("%s: %s is forgotten", what, log)
			}
		}
	}
	have("too many", maxEnded, "last", fmt.Sprintf("app.%04d", more+1), fmt.Sprintf("app.%04d", maxEnded+more-1))
	if b.node.operators.records[fmt.Sprintf("app.%04d", more)] != nil {
		t.Error("not the oldest was forgotten")
	}
	b.open()
	have("after a restart", maxEnded, "last")
	b.now = b.now.Add(keepEnded - time.Minute)
	b.look()
	have("when most are old", 1, "last")
	b.now = b.now.Add(2 * time.Minute)
	b.look()
	have("when all are old", 0)
	if len(b.row("nginx").History) == 0 {
		t.Error("the history of a defined log is gone")
	}
}
