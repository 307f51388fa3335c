package main

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Both packages have the same files in the same places, but for what the distributions keep elsewhere.
func TestRPMHasWhatTheDebHas(t *testing.T) {
	list := func(script string) []string {
		out, err := exec.Command("sh", "-euc", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		var names []string
		for _, name := range strings.Fields(string(out)) {
			name = strings.Replace(strings.TrimPrefix(name, "."), "vendor-completions", "site-functions", 1)
			if !strings.HasSuffix(name, "/") && name != "/usr/share/zsh/site-functions" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	fromDeb := list("dpkg-deb --fsys-tarfile " + deb(t, newer) + " | tar t | grep -v '/$'")
	fromRPM := list("rpm2cpio " + rpm(t, newer) + " | cpio --quiet -t | grep -v '/forwarders.d$'")
	if len(fromDeb) < 30 || !slices.Equal(fromDeb, fromRPM) {
		t.Errorf("deb: %q\nrpm: %q", fromDeb, fromRPM)
	}
	out, err := exec.Command("rpm", "-qp", "--configfiles", rpm(t, newer)).CombinedOutput()
	if err != nil || string(out) != "/etc/choria/plugin.d/logforward.cfg\n/etc/logforward/receive.cfg\n" {
		t.Errorf("%v, configuration: %s", err, out)
	}
}

func TestRPMIsInstalledUpgradedAndErased(t *testing.T) {
	r := newRoot(t)
	r.bring(rpm(t, older), "/tmp/old.rpm")
	r.bring(rpm(t, newer), "/tmp/new.rpm")
	r.sh("mkdir -p /run/systemd/system")
	r.put("/usr/bin/systemctl", systemctl, 0o755)
	// What it needs from others is dpkg's on this machine, so rpm can't see it.
	r.must("rpm", "--nodeps", "-i", "/tmp/old.rpm")
	w := newLoad(r)
	w.begin()
	w.arrived(1 << 18)
	r.put("/run/systemctl.log", "", 0o644)
	r.must("rpm", "--nodeps", "-U", "/tmp/new.rpm")
	if got := r.get("/run/systemctl.log"); got != "daemon-reload\ntry-restart logforward-receive.service logforward-forward.service\n" {
		t.Errorf("systemctl was asked for %q", got)
	}
	r.eventually("the new version to run", func() bool { return w.version() == newer })
	if !strings.Contains(r.get("/etc/choria/plugin.d/logforward.cfg"), "identity = n1.example.net") {
		t.Error("the upgrade changed the configuration")
	}
	w.arrived(w.written() + 1<<18)
	w.end()
	w.same()
	r.must("rpm", "--nodeps", "-e", "logforward")
	if r.exists("/usr/bin/logforward") || !r.exists("/var/lib/logforward/forward") {
		t.Error("the program is still there, or the state isn't")
	}
	w.same()
}
