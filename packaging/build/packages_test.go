package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func asExit(err error, exit **exec.ExitError) bool { return errors.As(err, exit) }

const older, newer = "0.9.0", "1.0.0"

// dir is where packages are built, once each.
var dir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if dir, err = os.MkdirTemp("", "packages-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

var (
	olderBuilt = sync.OnceValues(func() (string, error) { return build("old", older, "amd64") })
	newerBuilt = sync.OnceValues(func() (string, error) { return build("new", newer, "amd64") })
	againBuilt = sync.OnceValues(func() (string, error) { return build("again", newer, "amd64") })
	arm64Built = sync.OnceValues(func() (string, error) { return build("arm64", newer, "arm64") })
)

// olderCommit names the commit that the older packages are of, such as the last release's tag; empty: they are of this tree, too, and
// older by their version alone.
const olderCommit = "LOGFORWARD_OLDER"

// build gives the directory with the packages.
func build(name, version, arch string) (string, error) {
	b := &builder{root: "../..", out: filepath.Join(dir, name), version: version}
	if commit := os.Getenv(olderCommit); version == older && commit != "" {
		b.root = filepath.Join(dir, "older-tree")
		take := exec.Command("sh", "-euc", `mkdir "$1"; git -C ../.. archive "$2" | tar x -C "$1"`, "sh", b.root, commit)
		if out, err := take.CombinedOutput(); err != nil {
			return "", fmt.Errorf("the tree of %s=%s: %w: %s", olderCommit, commit, err, out)
		}
		at, err := exec.Command("git", "log", "-1", "--format=%ct", commit).Output() // outside of the repository it can't be asked for
		if err == nil && os.Getenv("SOURCE_DATE_EPOCH") == "" {
			err = os.Setenv("SOURCE_DATE_EPOCH", strings.TrimSpace(string(at)))
		}
		if err != nil {
			return "", err
		}
	}
	return b.out, b.run(context.Background(), []string{arch})
}

// packages of a version for this test.
func packages(t *testing.T, built func() (string, error)) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func deb(t *testing.T, version string) string {
	t.Helper()
	return filepath.Join(packages(t, of[version]), "logforward_"+version+"_amd64.deb")
}

func rpm(t *testing.T, version string) string {
	t.Helper()
	return filepath.Join(packages(t, of[version]), "logforward-"+version+"-1.x86_64.rpm")
}

var of = map[string]func() (string, error){older: olderBuilt, newer: newerBuilt}

func TestSameCommitGivesSameBytes(t *testing.T) {
	first, second := packages(t, newerBuilt), packages(t, againBuilt)
	files, err := filepath.Glob(filepath.Join(second, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		a, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(first, filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(a) != sha256.Sum256(b) {
			t.Errorf("%s: two builds differ", filepath.Base(file))
		}
	}
}

// The program in an arm64 package is one for arm64.
func TestEachArchitectureHasItsOwnProgram(t *testing.T) {
	for arch, machine := range map[string]byte{"amd64": 0x3e, "arm64": 0xb7} {
		dir := t.TempDir()
		built := map[string]func() (string, error){"amd64": newerBuilt, "arm64": arm64Built}[arch]
		file := filepath.Join(packages(t, built), "logforward_"+newer+"_"+arch+".deb")
		if out, err := exec.Command("dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		b, err := os.ReadFile(dir + "/usr/bin/logforward")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("\x7fELF")) || b[18] != machine {
			t.Errorf("%s: machine %#x, want %#x", arch, b[18], machine)
		}
	}
}

// systemctl stands in for systemd's, which needs systemd as process 1. It knows what the packages' scripts may ask for,
// and does it as systemd would: with the command and the user of the unit file, and SIGTERM to end.
const systemctl = `#!/bin/sh
set -eu
echo "$*" >> /run/systemctl.log
unit() { sed -n "s/^$2=//p" /usr/lib/systemd/system/$1; }
up() { [ -e /run/unit/$1 ] && kill -0 "$(cat /run/unit/$1)" 2>/dev/null; }
start() {
	user=$(unit $1 User) caps=$(unit $1 AmbientCapabilities | tr A-Z a-z | sed 's/cap_/+/')
	mkdir -p /run/unit
	NOTIFY_SOCKET= setpriv --reuid "$user" --regid "$user" --init-groups --bounding-set "-all${caps:+,$caps}" --inh-caps "-all${caps:+,$caps}" ${caps:+--ambient-caps "-all,$caps"} --no-new-privs \
		$(unit $1 ExecStart) >> /run/unit/$1.log 2>&1 & echo $! > /run/unit/$1
}
stop() {
	up $1 || return 0
	kill -TERM "$(cat /run/unit/$1)"
	n=0; while up $1; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.05; done
	rm /run/unit/$1
}
verb=$1; shift
case "$verb" in
daemon-reload) ;;
start) for u; do start $u; done ;;
stop) for u; do stop $u; done ;;
try-restart) for u; do if up $u; then stop $u; start $u; fi; done ;;
disable) [ "$1" = --now ]; shift; for u; do stop $u; done; if [ -e /run/machine ]; then start logforward-forward.service; n=0; until [ -S /run/logforward/forward.sock ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.05; done; echo again >> /run/systemctl.log; fi ;;
*) echo "systemctl: $verb isn't expected" >&2; exit 1 ;;
esac
`

func TestDebIsInstalledUpgradedUnderLoadRemovedAndPurged(t *testing.T) {
	r := newRoot(t)
	r.bring(deb(t, older), "/tmp/old.deb")
	r.bring(deb(t, newer), "/tmp/new.deb")

	// Installed: it is all there, nobody runs, nothing is forwarded.
	r.must("dpkg", "-i", "/tmp/old.deb")
	if out := r.must("dpkg", "-V", "logforward"); out != "" {
		t.Errorf("dpkg -V: %s", out)
	}
	if out := r.must("dpkg-query", "-W", "-f", "${Status} ${Version}", "logforward"); out != "install ok installed "+older {
		t.Error(out)
	}
	if out := r.sh("id -un logforward; id -un logforward-receive; stat -c '%U %a %n' /var/lib/logforward/* /var/log/logforward /etc/logforward/receive.cfg; stat -c '%G' /etc/logforward/receive.cfg"); out != `logforward
logforward-receive
logforward 700 /var/lib/logforward/forward
logforward-receive 750 /var/lib/logforward/receive
logforward-receive 750 /var/lib/logforward/received
logforward 700 /var/lib/logforward/wishes
logforward 750 /var/log/logforward
root 640 /etc/logforward/receive.cfg
logforward-receive
` {
		t.Error(out)
	}
	if out, code := r.try("logforward", "list"); code != 4 {
		t.Errorf("something runs after the installation: %d %s", code, out)
	}
	if out := r.must("logforward", "config", "destination"); strings.Contains(out, "now:") {
		t.Errorf("the default configuration forwards: %s", out)
	}
	if out := r.must("bash", "-c", ". /usr/share/bash-completion/completions/logforward; COMP_WORDS=(logforward rec); COMP_CWORD=1; _logforward_bash_autocomplete; echo ${COMPREPLY[@]}"); out != "receive receivers\n" {
		t.Errorf("completion: %q", out)
	}
	if out := r.must("man", "-w", "logforward-forward", "logforward.cfg"); !strings.Contains(out, "man1/logforward-forward.1") || !strings.Contains(out, "man5/logforward.cfg.5") {
		t.Errorf("manual: %s", out)
	}
	agent := "/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward"
	if out := r.must("env", "CHORIA_EXTERNAL_PROTOCOL=io.choria.mcorpc.external.v1.activation_request", "CHORIA_EXTERNAL_REPLY=/tmp/reply", "sh", "-c", ": > /tmp/reply; "+agent+" && cat /tmp/reply"); !strings.Contains(out, `"activate":true`) {
		t.Errorf("the agent: %s", out)
	}
	if !r.exists(agent+".json") || !r.exists(agent+".ddl") {
		t.Error("no description of the agent")
	}
	units(r)

	// A node and a centre at work, as the units run them, with a log that only root may read.
	r.sh("mkdir -p /run/systemd/system")
	r.put("/usr/bin/systemctl", systemctl, 0o755)
	w := newLoad(r)
	w.begin()
	w.arrived(1 << 20)
	before := w.version()

	// Upgraded meanwhile; a changed configuration stays as it is.
	changed := r.get("/etc/choria/plugin.d/logforward.cfg")
	r.put("/run/systemctl.log", "", 0o644)
	r.must("dpkg", "-i", "/tmp/new.deb")
	if got := r.get("/run/systemctl.log"); got != "daemon-reload\ntry-restart logforward-receive.service logforward-forward.service\n" {
		t.Errorf("systemctl was asked for %q", got)
	}
	if r.get("/etc/choria/plugin.d/logforward.cfg") != changed {
		t.Error("the upgrade changed the configuration")
	}
	r.eventually("the new version to run", func() bool { return w.version() == newer })
	if before != older {
		t.Errorf("%s ran before", before)
	}
	w.arrived(w.written() + 1<<20)
	w.end()
	w.same()
	wished(r)

	// What the new program doesn't take ends nothing that runs.
	running := r.get("/run/unit/logforward-forward.service") + r.get("/run/unit/logforward-receive.service")
	r.put("/etc/choria/plugin.d/logforward.cfg", changed+"setting_of_another_version = 1\n", 0o644)
	if out := r.must("dpkg", "-i", "/tmp/new.deb"); !strings.Contains(out, "logforward-forward isn't restarted") || !strings.Contains(out, "setting_of_another_version") {
		t.Errorf("the upgrade says %s", out)
	}
	if now := r.get("/run/unit/logforward-forward.service") + r.get("/run/unit/logforward-receive.service"); strings.Split(now, "\n")[0] != strings.Split(running, "\n")[0] || now == running {
		t.Errorf("processes %q, were %q: the receiver alone is restarted", now, running)
	}
	r.put("/etc/choria/plugin.d/logforward.cfg", changed, 0o644)

	// A release with other defaults leaves edited settings alone, unattended as Puppet and apt have it, and puts its own beside them.
	r.sh("dpkg-deb -R /tmp/new.deb /tmp/other; echo '# another default' | tee -a /tmp/other/etc/choria/plugin.d/logforward.cfg >> /tmp/other/etc/logforward/receive.cfg; sed -i 's/^Version: .*/Version: 1.0.1/' /tmp/other/DEBIAN/control; dpkg-deb -b /tmp/other /tmp/other.deb")
	r.must("dpkg", "--force-confdef", "--force-confold", "-i", "/tmp/other.deb")
	if r.get("/etc/choria/plugin.d/logforward.cfg") != changed || strings.Contains(r.get("/etc/logforward/receive.cfg"), "another default") {
		t.Error("an upgrade with other defaults changed edited settings")
	}
	if out := r.sh("grep -l 'another default' /etc/choria/plugin.d/*.dpkg-dist /etc/logforward/*.dpkg-dist | wc -l; stat -c %G /etc/logforward/receive.cfg"); out != "2\nlogforward-receive\n" {
		t.Errorf("the other defaults, and whose the settings are: %s", out)
	}
	w.eventually("the node to answer", func() bool { return w.version() == newer })

	// Removed: the daemons ended, what they made stays. Choria's machine, which is linked, starts one again in between.
	r.sh("mkdir -p /etc/choria/machine/other; ln -s /usr/share/logforward/machine/logforward /etc/choria/machine/logforward; : > /run/machine")
	r.must("dpkg", "-r", "logforward")
	if out := r.get("/run/systemctl.log"); !strings.Contains(out, "again\nstop ") {
		t.Errorf("nothing was started in between: %s", out)
	}
	if out := r.sh("ls /run/unit | grep 'service$' || true; pgrep -x logforward -a | grep -v broker || true"); out != "" {
		t.Errorf("still runs: %s", out)
	}
	for _, path := range []string{"/usr/bin/logforward", agent, agent + ".json", "/usr/lib/systemd/system/logforward-forward.service"} {
		if r.exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range []string{"/var/lib/logforward/forward/forward.db", "/etc/choria/plugin.d/logforward.cfg", "/etc/choria/logforward/forwarders.d/app.yaml"} {
		if !r.exists(path) {
			t.Errorf("%s is gone, before the purge; there is: %s", path, r.sh("find /var/lib/logforward /etc/choria"))
		}
	}
	// Purged: all is gone, but logs that were received.
	r.must("dpkg", "-P", "logforward")
	if !r.exists("/etc/choria/machine/other") {
		t.Error("another's machine is gone")
	}
	for _, path := range []string{"/etc/choria/machine/logforward", "/etc/choria/plugin.d/logforward.cfg", "/etc/logforward/receive.cfg", "/etc/choria/logforward", "/var/lib/logforward/forward", "/var/lib/logforward/wishes", "/var/log/logforward"} {
		if r.exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	w.same()
}

// A purge takes what was never used, and nothing of a receiver or broker that has its files elsewhere: what it needs to go on, and what it set aside.
func TestPurgeLeavesWhatAReceiverNeeds(t *testing.T) {
	r := newRoot(t)
	r.bring(deb(t, newer), "/tmp/new.deb")
	r.must("dpkg", "-i", "/tmp/new.deb")
	r.must("dpkg", "-P", "logforward")
	if r.exists("/var/lib/logforward") {
		t.Errorf("of what was never used there is: %s", r.sh("find /var/lib/logforward"))
	}
	r.must("dpkg", "-i", "/tmp/new.deb")
	kept := []string{"/var/lib/logforward/receive/receive.db", "/var/lib/logforward/receive/cut/n1/app@1-2@3", "/var/lib/logforward/broker/jetstream/x"}
	for _, file := range kept {
		r.put(file, "x", 0o600)
	}
	out := r.must("dpkg", "-P", "logforward")
	for _, file := range kept {
		if !r.exists(file) {
			t.Errorf("%s is gone", file)
		}
	}
	if !strings.Contains(out, "stay in /var/lib/logforward/receive /var/lib/logforward/broker\n") || r.exists("/var/lib/logforward/received") || r.exists("/var/lib/logforward/forward") {
		t.Errorf("%s\n%s", out, r.sh("find /var/lib/logforward"))
	}
}

// units are understood by systemd, and expose little.
func units(r *root) {
	r.Helper()
	for _, unit := range []string{"logforward-forward.service", "logforward-receive.service"} {
		file := "/usr/lib/systemd/system/" + unit
		if out, code := r.try("systemd-analyze", "verify", file); code != 0 || strings.Contains(out, unit) {
			r.Errorf("verify %s: %d %s", unit, code, out)
		}
		out, _ := r.try("systemd-analyze", "security", "--offline=true", "--no-pager", file)
		m := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			r.Fatalf("security %s: %s", unit, out)
		}
		score, err := strconv.ParseFloat(m[1], 64)
		if err != nil || score > 2.0 {
			r.Errorf("%s: exposure level %s, want at most 2.0", unit, m[1])
		}
	}
}

// wished: Choria Server, which is root, records a wish for the daemon, which isn't, and the daemon takes it.
func wished(r *root) {
	r.Helper()
	r.must("systemctl", "stop", "logforward-forward.service")
	r.put("/var/log/late.log", "late\n", 0o600)
	r.put("/tmp/request", fmt.Sprintf(`{"protocol":"io.choria.mcorpc.external.v1.rpc_request","agent":"logforward","action":"start","requestid":"%032d","senderid":"dev1","callerid":"choria=root.mcollective",
		"collective":"mcollective","ttl":60,"msgtime":%d,"data":{"log":"late","path":"/var/log/late.log","from":"beginning"}}`, 1, time.Now().Unix()), 0o600)
	reply := r.must("env", "CHORIA_EXTERNAL_PROTOCOL=io.choria.mcorpc.external.v1.rpc_request", "CHORIA_EXTERNAL_REQUEST=/tmp/request", "CHORIA_EXTERNAL_REPLY=/tmp/reply", "CHORIA_EXTERNAL_CONFIG=/etc/choria/plugin.d/logforward",
		"sh", "-c", "/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward && cat /tmp/reply")
	if !strings.Contains(reply, `"statuscode":0`) {
		r.Errorf("the agent, without a daemon: %s", reply)
	}
	if out := r.sh("ls /var/lib/logforward/wishes | wc -l"); strings.TrimSpace(out) != "1" {
		r.Errorf("%s wishes", out)
	}
	r.must("systemctl", "start", "logforward-forward.service")
	r.eventually("the wish to be taken", func() bool {
		b, err := os.ReadFile(r.path + "/var/lib/logforward/received/n1.example.net/late.log")
		return err == nil && string(b) == "late\n" && strings.TrimSpace(r.sh("ls /var/lib/logforward/wishes | wc -l")) == "0"
	})
}

// load is a log that is written to without pause, from the node's file to the receiver's.
type load struct {
	*root
	stop chan struct{}
	done sync.WaitGroup
	mu   sync.Mutex
	n    int64
	all  [sha256.Size]byte
	err  error
}

func newLoad(r *root) *load {
	r.Helper()
	port := freePort(r.T)
	url := "nats://127.0.0.1:" + port
	r.put("/etc/choria/plugin.d/logforward.cfg", "identity = n1.example.net\npolicy = peers\ndestination.central.url = "+url+"\n", 0o644)
	r.put("/etc/choria/logforward/forwarders.d/app.yaml", "log: app\npath: /var/log/app.log\nstart: beginning\n", 0o644)
	r.sh("printf 'url = " + url + "\\nrotate_every = 0\\n' >> /etc/logforward/receive.cfg") // over midnight the log stays one file
	broker := r.command(context.Background(), "/usr/bin/logforward", "broker", "--listen", "127.0.0.1:"+port, "--store", "/tmp/broker")
	if err := broker.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	r.eventually("streams", func() bool { _, code := r.try("logforward", "setup", "--partitions", "2"); return code == 0 })
	r.must("systemctl", "start", "logforward-receive.service", "logforward-forward.service")
	return &load{root: r, stop: make(chan struct{})}
}

func (w *load) begin() {
	w.Helper()
	f, err := os.OpenFile(filepath.Join(w.path, "/var/log/app.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.Fatal(err)
	}
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		defer f.Close()
		sum := sha256.New()
		for n := 0; ; n++ {
			select {
			case <-w.stop:
				w.mu.Lock()
				sum.Sum(w.all[:0])
				w.mu.Unlock()
				return
			case <-time.After(2 * time.Millisecond):
			}
			var lines bytes.Buffer
			for k := range 40 {
				fmt.Fprintf(&lines, "%09d.%02d what an application says while its forwarder is replaced under it\n", n, k)
			}
			sum.Write(lines.Bytes())
			_, err := f.Write(lines.Bytes())
			w.mu.Lock()
			w.n += int64(lines.Len())
			w.err = errors.Join(w.err, err)
			w.mu.Unlock()
		}
	}()
	w.Cleanup(w.end)
}

func (w *load) written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// end ends the writing; it may be called again.
func (w *load) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.done.Wait()
}

const central = "/var/lib/logforward/received/n1.example.net/app.log"

func (w *load) size() int64 {
	info, err := os.Stat(filepath.Join(w.path, central))
	if err != nil {
		return 0
	}
	return info.Size()
}

func (w *load) arrived(n int64) {
	w.Helper()
	w.eventually(fmt.Sprintf("%d bytes", n), func() bool { return w.size() >= n })
}

// same compares what was written with what lies at the centre.
func (w *load) same() {
	w.Helper()
	if w.err != nil {
		w.Fatal(w.err)
	}
	w.arrived(w.written())
	b := []byte(w.get(central))
	if int64(len(b)) != w.n || sha256.Sum256(b) != w.all {
		w.Errorf("%d bytes were written, %d have arrived, or they differ", w.n, len(b))
	}
}

func (w *load) version() string {
	out, _ := w.try("logforward", "status", "--json")
	m := regexp.MustCompile(`"version": ?"([^"]+)"`).FindStringSubmatch(out)
	if m == nil {
		return out
	}
	return m[1]
}
