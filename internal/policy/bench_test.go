package policy

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/policy/table"
)

// fifty is the rendered document of a table of fifty roles, each with several limits.
func fifty(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("version: 1\nroles:\n")
	for i := range 50 {
		fmt.Fprintf(&b, "  role-%d:\n    callers: [up=user-%d, up=team-%d-*, choria=team-%d-*.mcollective]\n    actions: [start, stop, pause]\n", i, i, i, i)
		fmt.Fprintf(&b, "    paths: [/var/log/service-%d/**, /srv/service-%d/log/*.log]\n    destinations: [central]\n    facts: {environment: [production, 'test-*']}\n    for: 4h\n    reason: required\n", i, i)
		fmt.Fprintf(&b, "    times: [{days: [mon-sun], hours: '00:00-24:00', zone: Europe/Berlin}]\n")
	}
	b.WriteString("deny:\n  external: {destinations: [external], facts: {environment: production}}\n")
	parsed, err := table.Parse("fifty.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	text, err := parsed.Render(table.ForChoria)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "logforward.rego")
	put(t, file, string(text))
	return file
}

// fiftieth is what the last role alone allows.
func fiftieth() Input {
	in := alice("start")
	in.CallerID = "choria=team-49-eve.mcollective"
	in.Facts = []byte(`{"environment":"test-1"}`)
	in.Data = map[string]any{"log": "x", "path": "/srv/service-49/log/a.log", "destination": "central", "for": "1h", "reason": "disk"}
	return in
}

func TestFiftyRoles(t *testing.T) {
	p := Open(fifty(t))
	if d := p.Decide(t.Context(), fiftieth()); !d.Allowed || d.Rule != "role-49" {
		t.Errorf("%+v", d)
	}
	in := fiftieth()
	in.Data["path"] = "/srv/service-48/log/a.log"
	if d := p.Decide(t.Context(), in); d.Allowed {
		t.Errorf("%+v", d)
	}
}

// cpu reports processor time, which other work on the machine doesn't change much.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := used()
	return func() { b.ReportMetric(float64((used()-began).Microseconds())/1000/float64(b.N), "cpu-ms/op") }
}

// BenchmarkCold is a document's first decision: what a process that runs once pays.
func BenchmarkCold(b *testing.B) {
	file, in := fifty(b), fiftieth()
	defer cpu(b)()
	for b.Loop() {
		if d := Open(file).Decide(b.Context(), in); !d.Allowed {
			b.Fatal(d)
		}
	}
}

// BenchmarkPrepared is each further decision.
func BenchmarkPrepared(b *testing.B) {
	p, in := Open(fifty(b)), fiftieth()
	defer cpu(b)()
	for b.Loop() {
		if d := p.Decide(b.Context(), in); !d.Allowed {
			b.Fatal(d)
		}
	}
}
