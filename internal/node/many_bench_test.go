package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
)

// BenchmarkStartOfManyLogs starts a glob of 10,000 files with a real engine that has no broker. It reports how long it took
// until each log knew its file, and the longest answers meanwhile.
func BenchmarkStartOfManyLogs(b *testing.B) {
	const files = 10000
	root := b.TempDir()
	logs, definitions := filepath.Join(root, "log"), filepath.Join(root, "forwarders.d")
	for _, dir := range []string{logs, definitions} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for i := range files {
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("app-%05d.log", i)), []byte("one line\n"), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(definitions, "app.yaml"), []byte("log: app\npath: "+logs+"/*.log\nstart: beginning\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	allowed, err := tail.ParseAllowed([]string{logs + "/*"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		startMany(b, definitions, logs, allowed, files)
	}
}

func startMany(b *testing.B, definitions, logs string, allowed tail.Allowed, files int) {
	state, err := forward.OpenState(filepath.Join(b.TempDir(), "state"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer state.Close()
	began := time.Now()
	engine := forward.New(forward.Config{Identity: "web1.example.net", State: state, Allowed: allowed,
		Destinations: map[string]forward.Destination{"central": {Broker: broker.Options{URLs: []string{"nats://127.0.0.1:1"}}}}})
	if err := engine.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	n := New(Config{Identity: "web1.example.net", Definitions: definitions, Allowed: allowed, Destinations: []string{"central"}, Engine: engine, State: state})
	if err := n.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	var status, list, check, change time.Duration
	timed := func(worst *time.Duration, do func() error) {
		at := time.Now()
		if err := do(); err != nil {
			b.Error(err)
		}
		*worst = max(*worst, time.Since(at))
	}
	opened := time.Since(began)
	for known := 0; known < files; time.Sleep(20 * time.Millisecond) {
		timed(&status, func() error {
			r, err := n.Status(ctx, control.StatusRequest{})
			known = 0
			for _, l := range r.Logs {
				if l.Files > 0 {
					known++
				}
			}
			return err
		})
		timed(&list, func() error { _, err := n.List(ctx); return err })
		timed(&check, func() error { _, err := n.Check(ctx); return err })
		timed(&change, func() error {
			_, err := n.Start(ctx, control.Caller{Name: "local=root"}, control.StartRequest{Log: "one", Path: logs + "/app-00000.log"})
			return err
		})
		if time.Since(began) > 3*time.Minute {
			b.Fatalf("%d of %d logs after %v", known, files, time.Since(began))
		}
	}
	b.ReportMetric(time.Since(began).Seconds(), "s-to-all")
	for name, d := range map[string]time.Duration{"open": opened, "status": status, "list": list, "check": check, "change": change} {
		b.ReportMetric(float64(d.Milliseconds()), "ms-"+name)
	}
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
