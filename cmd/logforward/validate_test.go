package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// finds validates and gives the findings of a check, by result.
func (s *site) finds(check, result string) (list []finding) {
	s.t.Helper()
	_, out, errText := once(s.t, "validate", "--json", "--config", s.config)
	var all []finding
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		s.t.Fatalf("%v in %s %s", err, out, errText)
	}
	for _, f := range all {
		if f.Check == check && f.Result == result {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		s.t.Errorf("no %q that is %s in %s", check, result, out)
		list = make([]finding, 1)
	}
	return list
}

func (s *site) set(line string) {
	s.t.Helper()
	b := read(s.t, s.config)
	name, _, _ := strings.Cut(line, "=")
	var kept []string
	for _, l := range strings.Split(b, "\n") {
		if !strings.HasPrefix(l, name+"=") && !strings.HasPrefix(l, strings.TrimSpace(name)+" ") {
			kept = append(kept, l)
		}
	}
	write(s.t, s.config, strings.Join(append(kept, line), "\n")+"\n")
}

func TestValidateFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startAll()
	s.append("a.log", "a line\n")
	s.define("a", "log: a\npath: LOGS/a.log\n")
	code, out, _ := once(t, "validate", "--config", s.config)
	if code != 0 || strings.Contains(out, "failed") {
		t.Errorf("%d %s", code, out)
	}
	for _, want := range []string{"may publish on logs.*.n1=2Eexample=2Enet.>", "clock and the broker's differ by", "receiver r1 answers", "watches are needed", "descriptors", "may read all 1 files", "free"} {
		if !strings.Contains(out, want) {
			t.Errorf("doesn't say %q:\n%s", want, out)
		}
	}
}

func TestValidateOfPolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.set("policy = " + s.dir + "/p.rego")
	if f := s.finds("policy", "warning"); !strings.Contains(f[0].Text, "nothing is allowed") || f[0].Remedy == "" {
		t.Errorf("%+v", f)
	}
	write(t, s.dir+"/p.rego", "package x\nallow {")
	if f := s.finds("policy", "failed"); !strings.Contains(f[0].Text, "broken") || !strings.Contains(f[0].Remedy, "correct it") {
		t.Errorf("%+v", f)
	}
}

// Root asks, but the daemon isn't root: what counts is what its own user may read.
func TestValidateReadsAsTheDaemonsUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can be another")
	}
	for _, unit := range units {
		if _, err := os.Stat(unit); err == nil {
			t.Skipf("%s says who the daemon is here", unit)
		}
	}
	s := newSite(t)
	s.append("open.log", "x\n")
	s.append("secret.log", "x\n")
	if err := os.Chmod(s.logs+"/secret.log", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.define("all", "log: all\npath: LOGS/*.log\n")
	s.finds("reading", "ok") // nobody's state yet
	if err := os.Mkdir(s.dir+"/forward", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(s.dir+"/forward", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	f := s.finds("reading", "failed")
	if len(f) != 1 || !strings.Contains(f[0].Text, "secret.log: permission denied") || !strings.Contains(f[0].Text, "nobody") || !strings.Contains(f[0].Remedy, "CAP_DAC_READ_SEARCH") {
		t.Errorf("%+v", f)
	}
	// A group that may read it is enough.
	if err := os.Chown(s.logs+"/secret.log", 0, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.logs+"/secret.log", 0o640); err != nil {
		t.Fatal(err)
	}
	s.finds("reading", "ok")
}

func TestUnitTellsTheDaemonsUser(t *testing.T) {
	t.Parallel()
	name, all, err := unitUser("../../packaging/systemd/logforward-forward.service")
	if err != nil || name != "logforward" || !all {
		t.Errorf("%q, reads all %v, %v", name, all, err)
	}
	if name, all, err = unitUser("../../packaging/systemd/logforward-receive.service"); err != nil || name != "logforward-receive" || all {
		t.Errorf("%q, reads all %v, %v", name, all, err)
	}
}

func TestValidateSeesAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	s := newSite(t)
	small := s.dir + "/small"
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("no small file system: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", small).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	})
	s.set("state = " + small + "/forward")
	if f := s.finds("state", "failed"); !strings.Contains(f[0].Text, "left") || !strings.Contains(f[0].Remedy, "room") {
		t.Errorf("%+v", f)
	}
	s.finds("audit_log", "ok")
}

// Credentials that don't permit to publish are found out before logs wait for it.
func TestValidateTriesTheRights(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.set("destination.central.url = " + guarded(t))
	s.set("destination.central.user = mute")
	s.set("destination.central.password = right")
	s.set("identity = other.example.net")
	if f := s.finds("destination central", "failed"); !strings.Contains(f[0].Text, "don't permit to publish") || !strings.Contains(f[0].Remedy, "other=2Eexample=2Enet") {
		t.Errorf("%+v", f)
	}
}

func TestValidateOfAReceiver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startBroker()
	config := s.dir + "/receive.cfg"
	write(t, config, "url = "+s.url+"\noutput = "+s.output+"\nstate = "+s.dir+"/receive\n")
	code, out, _ := once(t, "validate", "--for", "receive", "--config", config)
	if code != exitConfig || !strings.Contains(out, "run logforward setup") {
		t.Errorf("without streams: %d %s", code, out)
	}
	if code, _, errText := once(t, "setup", "--url", s.url); code != 0 {
		t.Fatal(errText)
	}
	code, out, _ = once(t, "validate", "--for", "receive", "--config", config)
	if code != 0 || !strings.Contains(out, "streams are set up") || !strings.Contains(out, "clock") || !strings.Contains(out, "free") {
		t.Errorf("%d %s", code, out)
	}
	write(t, config, "url = "+s.url+"\noutput = /dev/null/x\nstate = "+s.dir+"/receive\nmax_open_files = 1000000\n")
	code, out, _ = once(t, "validate", "--for", "receive", "--config", config)
	if code != exitConfig || !strings.Contains(out, "/dev/null is not a directory") || !strings.Contains(out, "smaller max_open_files") {
		t.Errorf("%d %s", code, out)
	}
}
