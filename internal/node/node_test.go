package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/awake"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
)

// wheel is an Engine that remembers what it was told, and stands where the test puts it.
type wheel struct {
	hang   chan struct{} // Status waits for who receives twice; nil: it doesn't
	mu     sync.Mutex
	logs   []forward.Log
	paused map[string]bool
	sets   int
	status map[string]forward.Status
	ended  chan error
}

func newWheel() *wheel {
	return &wheel{paused: map[string]bool{}, status: map[string]forward.Status{}, ended: make(chan error)}
}

func (w *wheel) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-w.ended:
		return err
	}
}

func (w *wheel) Set(logs []forward.Log) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs, w.sets = slices.Clone(logs), w.sets+1
}

func (w *wheel) Pause(name string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused[name] = on
}

func (w *wheel) Status(names ...string) []forward.Status {
	if w.hang != nil {
		w.hang <- struct{}{} // it has begun
		w.hang <- struct{}{} // it may end
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []forward.Status
	for _, l := range w.logs {
		if len(names) > 0 && !slices.Contains(names, l.Name) {
			continue
		}
		s, ok := w.status[l.Name]
		if !ok {
			s.State = "idle"
		}
		s.Log, s.Path, s.Destination = l.Name, l.Path, l.Destination
		all = append(all, s)
	}
	return all
}

func (w *wheel) stands(log string, s forward.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status[log] = s
}

// has are the logs that run, "name path start" each; a paused one ends in " paused".
func (w *wheel) has() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := []string{}
	for _, l := range w.logs {
		s := fmt.Sprintf("%s %s %s", l.Name, filepath.Base(l.Path), l.Start)
		if w.paused[l.Name] {
			s += " paused"
		}
		have = append(have, s)
	}
	return have
}

// bench is a node with its directories, a clock, and an engine of a test.
type bench struct {
	t     *testing.T
	dir   string // definitions
	logs  string // what may be forwarded
	state string
	now   time.Time
	wheel *wheel
	node  *Node
	store *forward.State
	auth  func(context.Context, control.Caller, control.Request) error
	files func(context.Context, control.Caller, control.Request) error // asked about files that a path leads to later
	dest  []string
	own   []Own
	watch *tail.Watcher
	poll  time.Duration    // default 20 ms
	rest  time.Duration    // default 15 times that
	clock func() time.Time // default: now
}

func newBench(t *testing.T) *bench {
	root := t.TempDir()
	b := &bench{t: t, dir: filepath.Join(root, "forwarders.d"), logs: filepath.Join(root, "log"), state: filepath.Join(root, "state"),
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), dest: []string{"central", "archive"}}
	for _, d := range []string{b.dir, b.logs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(b.close)
	return b
}

func (b *bench) close() {
	if b.store != nil {
		if err := b.store.Close(); err != nil {
			b.t.Error(err)
		}
		b.store = nil
	}
}

// open starts the node anew, with a new engine, on the same disk.
func (b *bench) open() *Node {
	b.t.Helper()
	b.close()
	var err error
	if b.store, err = forward.OpenState(b.state, nil); err != nil {
		b.t.Fatal(err)
	}
	allowed, err := tail.ParseAllowed([]string{b.logs + "/**"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.wheel = newWheel()
	clock := b.clock
	if clock == nil {
		clock = func() time.Time { return b.now }
	}
	b.node = New(Config{Identity: "n1", Definitions: b.dir, Allowed: allowed, Destinations: b.dest, Engine: b.wheel, State: b.store,
		Now: clock, Authorize: b.auth, File: b.files, Own: b.own, Poll: cmp.Or(b.poll, 20*time.Millisecond), Rest: b.rest, Watcher: b.watch})
	if err := b.node.Open(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return b.node
}

// look is what the node does once a second.
func (b *bench) look() {
	b.node.Reload()
}

func (b *bench) define(file, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, file), []byte(strings.ReplaceAll(text, "LOGS", b.logs)), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) file(name string) string {
	b.t.Helper()
	p := filepath.Join(b.logs, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte("x\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) want(what string, logs ...string) {
	b.t.Helper()
	if got := b.wheel.has(); !slices.Equal(got, logs) {
		b.t.Errorf("%s: the engine works %q; want %q", what, got, logs)
	}
}

func (b *bench) row(log string) control.LogStatus {
	b.t.Helper()
	s, err := b.node.Status(b.t.Context(), control.StatusRequest{Log: log, History: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Logs[0]
}

// problems are those of status, as text.
func (b *bench) problems() string {
	b.t.Helper()
	s, err := b.node.Status(b.t.Context(), control.StatusRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprint(s.Problems)
}

// alice asks anew each time.
func alice() control.Caller {
	return control.Caller{UID: 1000, Name: "choria=alice.mcollective", RequestID: "0f3a" + rand.Text(), Collective: "mcollective", TTL: 60}
}

func (b *bench) must(r control.Reply, err error) control.Reply {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

const nginx = "log: nginx\npath: LOGS/access.log\ndestination: central\n"
const syslog = "log: syslog\npath: LOGS/syslog\ndestination: central\nstart: beginning\n"

func TestDefinitionsAreForwarded(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.define("syslog.yaml", syslog)
	b.open()
	b.want("at start", "nginx access.log end", "syslog syslog beginning")
	if r := b.row("nginx"); r.Managed != filepath.Join(b.dir, "nginx.yaml") || r.State != "idle" {
		t.Errorf("%+v", r)
	}
}

// Everything that can be done to the directory takes effect within two seconds, with real notification and time.
func TestDefinitionsTakeEffectWithinTwoSeconds(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.node.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	within := func(what string, logs ...string) {
		t.Helper()
		watch := awake.Begin(t)
		defer watch.End()
		for !slices.Equal(b.wheel.has(), logs) {
			if watch.Took() > 2*time.Second {
				t.Fatalf("%s: after 2 s the engine works %q; want %q", what, b.wheel.has(), logs)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	within("start", "nginx access.log end")
	b.define("syslog.yaml", syslog)
	within("added", "nginx access.log end", "syslog syslog beginning")
	b.define("nginx.yaml", strings.ReplaceAll(nginx, "access.log", "other.log"))
	within("changed in place", "nginx other.log end", "syslog syslog beginning")
	b.define(".tmp", strings.ReplaceAll(nginx, "access.log", "third.log"))
	must(os.Rename(filepath.Join(b.dir, ".tmp"), filepath.Join(b.dir, "nginx.yaml")))
	within("renamed into place", "nginx third.log end", "syslog syslog beginning")
	must(os.Remove(filepath.Join(b.dir, "syslog.yaml")))
	within("removed", "nginx third.log end")

	// The whole directory is replaced by a link to another.
	other := b.dir + ".2"
	must(os.Mkdir(other, 0o755))
	old := b.dir
	b.dir = other
	b.define("syslog.yaml", syslog)
	b.dir = old
	must(os.Rename(old, old+".1"))
	must(os.Symlink(other, old))
	within("replaced by a link", "syslog syslog beginning")
	b.define("nginx.yaml", nginx)
	within("added behind the link", "nginx access.log end", "syslog syslog beginning")
}

func TestBrokenDefinitionKeepsTheLastGood(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.define("syslog.yaml", syslog)
	b.open()
	b.define("nginx.yaml", "log: nginx\npath: [\n")
	b.define("new.yaml", "log: new\nurl: x\n")
	b.define("syslog.yaml", strings.ReplaceAll(syslog, "beginning", "end"))
	b.look()
	b.want("with two broken files", "nginx access.log end", "syslog syslog end")
	p := b.problems()
	for _, want := range []string{"nginx.yaml:2", "its last good definition stays in force", "new.yaml:2", "unknown field", "new.yaml:1: path: is missing"} {
		if !strings.Contains(p, want) {
			t.Errorf("problems %q don't say %q", p, want)
		}
	}
	c, err := b.node.Check(t.Context())
	if err != nil || len(c.Problems) < 2 {
		t.Errorf("check: %+v, %v", c, err)
	}
	b.define("nginx.yaml", nginx)
	if err := os.Remove(filepath.Join(b.dir, "new.yaml")); err != nil {
		t.Fatal(err)
	}
	b.look()
	if p := b.problems(); p != "[]" {
		t.Errorf("after the repair: %s", p)
	}
}

func TestMissingDirectoryStopsNothing(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	if err := os.Rename(b.dir, b.dir+".away"); err != nil {
		t.Fatal(err)
	}
	b.look()
	b.want("without the directory", "nginx access.log end")
	if p := b.problems(); !strings.Contains(p, "what it last defined stays in force") {
		t.Errorf("problems: %s", p)
	}
	if err := os.Rename(b.dir+".away", b.dir); err != nil {
		t.Fatal(err)
	}
	b.look()
	if p := b.problems(); p != "[]" {
		t.Errorf("when it is back: %s", p)
	}
}

func TestDuplicateLogNamesBothFiles(t *testing.T) {
	b := newBench(t)
	b.define("b.yaml", nginx)
	b.open()
	b.define("a.yaml", strings.ReplaceAll(nginx, "access", "evil"))
	b.look()
	b.want("the one that ran before", "nginx access.log end")
	if p := b.problems(); !strings.Contains(p, filepath.Join(b.dir, "a.yaml")) || !strings.Contains(p, filepath.Join(b.dir, "b.yaml")) {
		t.Errorf("problems: %s", p)
	}
	if err := os.Remove(filepath.Join(b.dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	b.look()
	b.want("when the first is gone", "nginx evil.log end")
	b.open()
	b.want("after a restart", "nginx evil.log end")
}

func TestTemporaryFilesAreNotRead(t *testing.T) {
	b := newBench(t)
	for _, f := range []string{".nginx.yaml", "nginx.yaml~", ".nginx.yaml.swp", "#nginx.yaml#", "nginx.yaml.dpkg-new", "nginx.yaml.rpmsave", "README", "..2026_01_01"} {
		b.define(f, nginx)
	}
	b.define("syslog.yml", syslog)
	if err := os.Mkdir(filepath.Join(b.dir, "d.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.want("nothing but temporaries")
	if p := b.problems(); !strings.Contains(p, "ends in .yaml") || !strings.Contains(p, "not a regular file") || strings.Contains(p, "nginx") {
		t.Errorf("problems: %s", p)
	}
}

func TestUnknownDestinationFailsThatLogOnly(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", strings.ReplaceAll(nginx, "central", "moon"))
	b.define("syslog.yaml", syslog)
	b.open()
	b.want("one of two", "syslog syslog beginning")
	if r := b.row("nginx"); r.State != "failed" || !strings.Contains(r.Error, "known: archive, central") {
		t.Errorf("%+v", r)
	}
}

func TestGlobMakesOneLogPerFile(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.file("web/b.log")
	b.file("web/b.log.1")
	b.file("web/c.log.gz")
	b.define("web.yaml", "log: web\npath: LOGS/web/*.log*\ndestination: central\n")
	b.open()
	b.want("at first sight", "web.a.log a.log end", "web.b.log b.log end")
	l, err := b.node.List(t.Context())
	if err != nil || !strings.Contains(l.Forwarders[0].Files, "2 files followed out of 4 matching") || len(l.Forwarders[0].Refused) != 2 {
		t.Errorf("list: %+v, %v", l, err)
	}
	b.file("web/new.log")
	b.look()
	b.want("a new file", "web.a.log a.log end", "web.b.log b.log end", "web.new.log new.log beginning")
	b.file("web/while-down.log")
	b.open()
	b.want("made while the node was down", "web.a.log a.log end", "web.b.log b.log end", "web.new.log new.log beginning", "web.while-down.log while-down.log beginning")
}

// Rotation without "create" leaves a moment without the live file. The rotated one must not become a log of its own.
func TestGlobDoesNotTakeARotatedFileForANewOne(t *testing.T) {
	b := newBench(t)
	live := b.file("web/a.log")
	b.define("web.yaml", "log: web\npath: LOGS/web/*\ndestination: central\n")
	b.open()
	for _, to := range []string{"a.log.1", "elsewhere.txt"} {
		if err := os.Rename(live, filepath.Join(b.logs, "web", to)); err != nil {
			t.Fatal(err)
		}
		b.look()
		b.want("renamed to "+to, "web.a.log a.log end")
		b.file("web/a.log")
		b.look()
		b.want("live again after "+to, "web.a.log a.log end")
	}
	b.open()
	b.want("after a restart", "web.a.log a.log end")
}

func TestVanishedFileIsKeptUntilItIsConfirmed(t *testing.T) {
	b := newBench(t)
	live := b.file("web/a.log")
	b.define("web.yaml", "log: web\npath: LOGS/web/*.log\ndestination: central\n")
	b.open()
	b.wheel.stands("web.a.log", forward.Status{State: "blocked", LagBytes: 7})
	if err := os.Remove(live); err != nil {
		t.Fatal(err)
	}
	b.look()
	b.now = b.now.Add(24 * time.Hour)
	b.look()
	b.want("a day later, with 7 bytes unconfirmed", "web.a.log a.log end")
	b.wheel.stands("web.a.log", forward.Status{State: "idle"})
	b.look()
	b.want("when they are confirmed")
}

func TestGlobNamesNeverCollide(t *testing.T) {
	b := newBench(t)
	b.file("x/a.log")
	b.file("y/a.log")
	b.file("x/taken")
	b.define("web.yaml", "log: web\npath: LOGS/{x,y}/*\ndestination: central\n")
	b.define("taken.yaml", "log: web.taken\npath: LOGS/other\ndestination: central\n")
	b.open()
	b.want("each name once", "web.a.log a.log end", "web.taken other end")
	l, err := b.node.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(l.Forwarders[0].Refused); !strings.Contains(got, "y/a.log") || !strings.Contains(got, "x/taken") {
		t.Errorf("refused: %s", got)
	}
}

func TestReloadReadsAgain(t *testing.T) {
	b := newBench(t)
	b.open()
	b.define("nginx.yaml", nginx)
	b.node.Reload()
	b.want("after a reload, which waits", "nginx access.log end")
}

func TestEngineEndingByItselfIsAnError(t *testing.T) {
	b := newBench(t)
	b.open()
	go func() { b.wheel.ended <- errors.New("boom") }()
	if err := b.node.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%v", err)
	}
	if h := b.node.Health(t.Context()); h.Healthy {
		t.Error("healthy without an engine")
	}
}

// A file that is written in place can be a valid definition of a wrong path before it is complete.
func TestDefinitionIsReadOnlyWhenItHasSettled(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	d := newDirectory(b.dir)
	d.look(false)
	if len(d.sources) != 1 {
		t.Fatalf("at first sight there is nothing to wait for: %v", d.sources)
	}
	for {
		began := time.Now()
		b.define("nginx.yaml", strings.ReplaceAll(nginx, "access.log", "acc"))
		d.look(false)
		if path := d.sources["nginx.yaml"].good.Path; d.unsettled && filepath.Base(path) == "access.log" {
			break
		} else if time.Since(began) < settle {
			t.Fatalf("read at once: %s", path)
		}
		b.define("nginx.yaml", nginx) // the look came late, for the machine has much to do: once more
		d.look(true)
	}
	past := time.Now().Add(-settle)
	if err := os.Chtimes(filepath.Join(b.dir, "nginx.yaml"), past, past); err != nil {
		t.Fatal(err)
	}
	d.look(false)
	if path := d.sources["nginx.yaml"].good.Path; d.unsettled || filepath.Base(path) != "acc" {
		t.Errorf("not read when it has settled: %s", path)
	}
}

// A thousand quiet files must cost next to nothing, and a new one be seen all the same.
func TestGlobIsLookedAtOnlyWhenItsDirectoryChanged(t *testing.T) {
	dir := t.TempDir()
	pattern := dir + "/*.log"
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, past, past); err != nil {
		t.Fatal(err)
	}
	var g glance
	if !g.due(pattern, time.Now(), everyLook) {
		t.Error("not looked at at first")
	}
	g.begin(pattern)()
	g.cost = 0
	if g.due(pattern, time.Now(), everyLook) {
		t.Error("looked at again though nothing changed")
	}
	if !g.due(pattern, time.Now().Add(everyLook), everyLook) {
		t.Error("never looked at again")
	}
	if err := os.WriteFile(dir+"/new.log", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !g.due(pattern, time.Now(), everyLook) {
		t.Error("a new file isn't seen")
	}
	// It changed a moment ago: another change could leave the same time.
	changed := time.Now()
	if err := os.Chtimes(dir, changed, changed); err != nil {
		t.Fatal(err)
	}
	g.begin(pattern)()
	g.cost = 0
	if !g.due(pattern, time.Now(), everyLook) && time.Since(changed) < coarse {
		t.Error("a change in the same tick would be missed")
	}
	g.cost = time.Second
	if g.due(pattern, time.Now().Add(10*time.Second), everyLook) {
		t.Error("looks that take a second are to be rare")
	}
	for _, p := range []string{dir + "/*/a.log", dir + "/**", dir + "/**/*.log", dir + "/{a,b}/x*"} {
		if d := oneDirectory(p); d != "" {
			t.Errorf("%s lies in %s alone?", p, d)
		}
	}
}
