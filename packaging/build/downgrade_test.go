package main

import (
	"regexp"
	"strings"
	"testing"
)

// A release that is taken back goes on with what the newer one has written, under load: no byte is lost, doubled or numbered anew, and what
// operators said stands.
func TestDebIsDowngradedUnderLoad(t *testing.T) {
	r := newRoot(t)
	r.bring(deb(t, older), "/tmp/old.deb")
	r.bring(deb(t, newer), "/tmp/new.deb")
	r.sh("mkdir -p /run/systemd/system")
	r.put("/usr/bin/systemctl", systemctl, 0o755)
	r.must("dpkg", "-i", "/tmp/new.deb")
	w := newLoad(r)
	w.begin()
	w.arrived(1 << 20)
	if v := w.version(); v != newer {
		t.Fatalf("%s runs, want %s", v, newer)
	}
	r.put("/var/log/held.log", "before\n", 0o600)
	r.eventually("the daemon to start a log", func() bool {
		_, code := r.try("logforward", "start", "held", "/var/log/held.log", "--beginning", "--for", "1d")
		return code == 0
	})
	held := func(text string) {
		t.Helper()
		r.eventually("held to be "+text, func() bool {
			out, _ := r.try("logforward", "cat", "n1.example.net/held", "--output", "/var/lib/logforward/received")
			return out == text
		})
	}
	held("before\n")
	r.must("logforward", "pause", "held", "--reason", "to be remembered")
	r.sh("echo held back >> /var/log/held.log")
	epoch := w.epoch()

	for _, next := range []struct{ file, version string }{{"/tmp/old.deb", older}, {"/tmp/new.deb", newer}, {"/tmp/old.deb", older}} {
		r.put("/run/systemctl.log", "", 0o644)
		r.must("dpkg", "-i", next.file)
		if got := r.get("/run/systemctl.log"); got != "daemon-reload\ntry-restart logforward-receive.service logforward-forward.service\n" {
			t.Errorf("to %s: systemctl was asked for %q", next.version, got)
		}
		r.eventually(next.version+" to run", func() bool { return w.version() == next.version })
		w.arrived(w.written() + 1<<18)
		if out := r.must("logforward", "status", "held"); !strings.Contains(out, "paused") || !strings.Contains(out, "to be remembered") {
			t.Errorf("%s has forgotten what an operator said: %s", next.version, out)
		}
	}
	w.end()
	w.same()
	if now := w.epoch(); now != epoch {
		t.Errorf("the log is in epoch %s, was in %s", now, epoch)
	}
	if out := r.must("logforward", "ledger", "n1.example.net/app", "--output", "/var/lib/logforward/received"); regexp.MustCompile(` (gap|anew|fork|repair|damage) `).MatchString(out) {
		t.Errorf("the ledger tells of a loss: %s", out)
	}
	r.must("logforward", "resume", "held")
	held("before\nheld back\n")
	if out := r.sh("ls -d /var/lib/logforward/*/*corrupt* /var/lib/logforward/*/cut/*/* 2>/dev/null || true"); out != "" {
		t.Errorf("set aside: %s", out)
	}
}

// epoch is what the node numbers the log by.
func (w *load) epoch() string {
	w.Helper()
	m := regexp.MustCompile(`"epoch": ?([0-9]+)`).FindStringSubmatch(w.must("logforward", "status", "app", "--json"))
	if m == nil {
		w.Fatal("no epoch")
	}
	return m[1]
}
