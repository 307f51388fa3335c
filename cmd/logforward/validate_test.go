package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"logforward/internal/chunk"
	"logforward/internal/settings"
)

// finds validates and gives the findings of a check, by result.
func (s *site) finds(check, result string) (list []finding) {
	s.t.Helper()
	code, out, errText := once(s.t, "validate", "--json", "--config", s.config)
	if result == "failed" && code != exitConfig {
		s.t.Errorf("exit code %d, though a check failed", code)
	}
	var all []finding
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		s.t.Fatalf("%v in %s %s", err, out, errText)
	}
	for _, f := range all {
		if f.Result != "ok" && f.Remedy == "" {
			s.t.Errorf("nothing says what to do about %+v", f)
		}
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
	var code int
	var out string
	eventually(t, "the receiver is ready", func() bool { // which validate only warns of while it starts
		code, out, _ = once(t, "validate", "--config", s.config)
		return !strings.Contains(out, "isn't ready yet") && !strings.Contains(out, "no receiver listens")
	})
	if code != 0 || strings.Contains(out, "failed") {
		t.Errorf("%d %s", code, out)
	}
	for _, want := range []string{"may publish on logs.*.n1=2Eexample=2Enet.>", "the clocks of this machine and receiver r1 differ by", "receiver r1 answers", "watches are needed", "descriptors", "may read all 1 files", "free"} {
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
	for _, unit := range units(settings.Forward) {
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
	name, all, most, err := unitUser("../../packaging/systemd/logforward-forward.service")
	if err != nil || name != "logforward" || !all || most != 65536 {
		t.Errorf("%q, reads all %v, %d descriptors, %v", name, all, most, err)
	}
	if name, all, most, err = unitUser("../../packaging/systemd/logforward-receive.service"); err != nil || name != "logforward-receive" || all || most != 262144 {
		t.Errorf("%q, reads all %v, %d descriptors, %v", name, all, most, err)
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

// Whatever is wrong with the way to the centre is told with what to do about it.
func TestValidateOfTheWayToTheCentre(t *testing.T) {
	t.Parallel()
	const check = "destination central"
	s := newSite(t)
	wants := func(result, text, remedy string) {
		t.Helper()
		for _, f := range s.finds(check, result) {
			if strings.Contains(f.Text, text) && strings.Contains(f.Remedy, remedy) {
				return
			}
		}
		t.Errorf("nothing is %s because of %q with %q", result, text, remedy)
	}
	wants("failed", "refused", "broker runs")
	s.startBroker()
	wants("failed", "streams are not set up", "logforward setup")
	if code, _, errText := once(t, "setup", "--url", s.url); code != 0 {
		t.Fatal(errText)
	}
	wants("warning", "no receiver listens", "start a receiver")

	// A receiver whose clock is an hour ahead.
	nc, err := nats.Connect(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Subscribe(chunk.SyncSubject("logs", "n1.example.net"), func(m *nats.Msg) {
		b, err := json.Marshal(chunk.Answer{Ready: true, Receiver: "r9", Layout: &chunk.Layout{ID: "x", Prefix: "logs", Partitions: 1}, Time: time.Now().Add(time.Hour)})
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	wants("warning", "the clocks of this machine and receiver r9 differ by 1h0m0s", "chrony")

	s.set("destination.central.url = " + guarded(t))
	s.set("destination.central.user = n1")
	s.set("destination.central.password = wrong")
	wants("failed", "refused", "credentials")
	s.set("destination.central.ca = /nowhere/ca.pem")
	wants("failed", "/nowhere/ca.pem", "authorities")
}

// A leaf node needs no JetStream: where a receiver answers through it, there are streams behind it.
func TestValidateBehindALeafNode(t *testing.T) {
	t.Parallel()
	leaf, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	leaf.Start()
	t.Cleanup(func() { leaf.Shutdown(); leaf.WaitForShutdown() })
	if !leaf.ReadyForConnections(time.Minute) {
		t.Fatal("the leaf node doesn't start")
	}
	s := newSite(t)
	s.set("destination.central.url = " + leaf.ClientURL())
	if f := s.finds("destination central", "failed"); !strings.Contains(f[0].Remedy, "JetStream") && !strings.Contains(f[0].Remedy, "logforward setup") {
		t.Errorf("without a receiver: %+v", f)
	}
	nc, err := nats.Connect(leaf.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answer, err := json.Marshal(chunk.Answer{Ready: true, Receiver: "r1", Layout: &chunk.Layout{ID: "x", Prefix: "logs", Partitions: 1}, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe(chunk.SyncSubject("logs", "n1.example.net"), func(m *nats.Msg) {
		if err := m.Respond(answer); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	code, out, _ := once(t, "validate", "--config", s.config)
	if code != 0 || !strings.Contains(out, "as behind a leaf node") {
		t.Errorf("%d %s", code, out)
	}
}

func TestValidateOfDefinitionsAndSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.define("bad", "log: bad\nurl: x\n")
	s.define("secret", "log: secret\npath: /etc/shadow\n")
	s.define("moon", "log: moon\npath: LOGS/x.log\ndestination: moon\n")
	s.define("all", "log: all\npath: LOGS/*.log\n")
	s.define("whole", "log: whole\npath: LOGS\n")
	s.define("pipe", "log: pipe\npath: LOGS/pipe\n")
	s.append("good.log", "x\n")
	if err := unix.Mkfifo(s.logs+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", s.logs+"/link.log"); err != nil {
		t.Fatal(err)
	}
	for check, text := range map[string]string{"definition " + s.dir + "/forwarders.d/bad.yaml": "url", "log secret": "not permitted", "log moon": "moon"} {
		if f := s.finds(check, "failed"); !strings.Contains(f[0].Text, text) {
			t.Errorf("%+v", f)
		}
	}
	for check, text := range map[string]string{"log whole": "it is a directory", "log pipe": "it is a FIFO"} {
		if f := s.finds(check, "warning"); !strings.Contains(f[0].Text, text) {
			t.Errorf("%+v", f)
		}
	}
	if _, out, _ := once(t, "validate", "--config", s.config); !strings.Contains(out, "known: destination, log, path, rate, start\n         ") {
		t.Errorf("two problems of a file: %s", out)
	}
	if f := s.finds("log all", "warning"); !strings.Contains(f[0].Text, "link.log") || !strings.Contains(f[0].Remedy, "allowed_paths") {
		t.Errorf("%+v", f)
	}
	s.set("socket = /" + strings.Repeat("long/", 30))
	if f := s.finds("socket", "failed"); !strings.Contains(f[0].Remedy, "shorter") {
		t.Errorf("%+v", f)
	}
	s.set("forwarders = /nowhere")
	s.finds("definitions", "warning")
	s.set("audit_destination = moon")
	if f := s.finds("audit log", "failed"); !strings.Contains(f[0].Text, "moon") {
		t.Errorf("%+v", f)
	}
	s.set("chunk_size = banana")
	if f := s.finds("settings", "failed"); !strings.Contains(f[0].Text, "banana") || !strings.Contains(f[0].Remedy, "logforward config") {
		t.Errorf("%+v", f)
	}
}

// What the daemon is to write to must be its user's, and on a file system that takes writes.
func TestValidateWritesAsTheDaemonsUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can be another, and mount")
	}
	for _, unit := range units(settings.Forward) {
		if _, err := os.Stat(unit); err == nil {
			t.Skipf("%s says who the daemon is here", unit)
		}
	}
	s := newSite(t)
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, uid := range map[string]int{"forward": 65534, "audit": 0} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(s.dir, dir), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	s.set("audit_log = " + s.dir + "/audit/audit.log")
	if f := s.finds("audit_log", "failed"); !strings.Contains(f[0].Text, "nobody") || !strings.Contains(f[0].Remedy, "chown nobody") {
		t.Errorf("%+v", f)
	}
	if _, out, _ := once(t, "validate", "--config", s.config); strings.Contains(out, "ok       audit_log") {
		t.Errorf("it is in order as well: %s", out)
	}
	if err := os.MkdirAll(s.dir+"/shut/audit", 0o700); err != nil {
		t.Fatal(err)
	}
	s.set("audit_log = " + s.dir + "/shut/audit/audit.log")
	if f := s.finds("audit_log", "failed"); !strings.Contains(f[0].Text, "permission denied") {
		t.Errorf("a directory that nobody but root may even look for: %+v", f)
	}
	s.set("audit_log = " + s.dir + "/audit/audit.log")
	if err := os.Chown(s.dir+"/audit", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	s.finds("audit_log", "ok")
	if files, err := os.ReadDir(s.dir + "/audit"); err != nil || len(files) != 0 {
		t.Errorf("it left %v, %v", files, err)
	}
	if err := unix.Mount("tmpfs", s.dir+"/audit", "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer func() {
		if err := unix.Unmount(s.dir+"/audit", 0); err != nil {
			t.Error(err)
		}
	}()
	if f := s.finds("audit_log", "failed"); !strings.Contains(f[0].Text, "read-only") || !strings.Contains(f[0].Remedy, "mount it for writing") {
		t.Errorf("%+v", f)
	}
}

// The kernel's limits are those that the process is under: here, a user namespace's and a shell's.
func TestValidateOfLimits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		s.append(name+"/"+name+".log", "x\n")
	}
	s.define("all", "log: all\npath: LOGS/*/*.log\n")
	s.finds("inotify", "ok")
	s.finds("descriptors", "ok")
	for _, c := range []struct{ check, result, script, remedy string }{
		{"inotify", "failed", "echo 4 > /proc/sys/user/max_inotify_watches", "sysctl user.max_inotify_watches=16"},
		{"inotify", "warning", "echo 10 > /proc/sys/user/max_inotify_watches", "sysctl user.max_inotify_watches=32"},
		{"descriptors", "failed", "ulimit -n 70", "LimitNOFILE"},
	} {
		for _, unit := range units(settings.Forward) {
			if _, err := os.Stat(unit); err == nil && c.check == "descriptors" {
				t.Skipf("%s says how many descriptors there are", unit)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "sh", "-euc", c.script+`; exec "$@"`, "sh", os.Args[0], "validate", "--json", "--config", s.config)
		cmd.Env = []string{beProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		var errText strings.Builder
		cmd.Stderr = &errText
		out, err := cmd.Output()
		cancel()
		var all []finding
		if json.Unmarshal(out, &all) != nil {
			t.Skipf("there are no user namespaces for that here: %v %s %s", err, out, errText.String())
		}
		found := false
		for _, f := range all {
			found = found || f.Check == c.check && f.Result == c.result && strings.Contains(f.Remedy, c.remedy)
		}
		if !found || cmd.ProcessState.ExitCode() != exitConfig { // there is no broker, either
			t.Errorf("%s: %d %s", c.script, cmd.ProcessState.ExitCode(), out)
		}
	}
}
