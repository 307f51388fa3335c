package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// unprovedSite has a receiver that has set "only copy\n" of a log aside, which no digest proves; it is stopped.
func unprovedSite(t *testing.T, identity, log string) (*site, *node) {
	t.Helper()
	s := newSite(t, nil)
	n := s.node(identity, log)
	s.steady(n, "one\n")
	f := s.crashAt(opPrepare, true)
	n.send(n.make("only copy\n"))
	s.startReceiver()
	s.crashed(f)
	s.purge("")
	s.rewrite(n, func(rec *record, n *node) {
		rec.Place.Position, rec.Place.Digest, rec.Place.Tail = n.position, n.digest+1, chunk.Tail{From: n.position, Digest: n.digest + 1}
		rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: n.position, To: n.position + 5})
	})
	n.digest++
	s.startReceiver()
	eventually(t, "set aside", func() (bool, string) {
		cut := cutFiles(t, s)
		return len(cut) == 1 && cut[0] == "only copy\n", fmt.Sprintf("%q", cut)
	})
	n.place(t, n.here())
	s.must(s.stopReceiver())
	return s, n
}

// decisions are the lines of operators' decisions in a log's ledgers.
func decisions(n *node) (all []Entry) {
	n.s.t.Helper()
	names, err := Ledgers(n.s.config.Output, n.identity, n.log)
	n.s.must(err)
	for _, name := range names {
		entries, err := Ledger(filepath.Join(n.s.config.Output, name))
		n.s.must(err)
		for _, e := range entries {
			if e.Event == EventKept || e.Event == EventDropped {
				all = append(all, e)
			}
		}
	}
	return all
}

// isDone waits until nothing is set aside or asked any more, and checks what is left: the log as it was, and the decision in its ledger.
func (s *site) isDone(n *node, q AsideRequest) {
	s.t.Helper()
	left := func() []string {
		var all []string
		for _, dir := range []string{"cut", "aside", "asked"} {
			paths, err := filepath.Glob(filepath.Join(s.config.State, dir, "*", "*"))
			s.must(err)
			all = append(all, paths...)
		}
		return all
	}
	eventually(s.t, "do what is asked", func() (bool, string) { return len(left()) == 0, fmt.Sprintf("%q\n%s", left(), tree(s.dir)) })
	lines := decisions(n)
	if len(lines) == 0 {
		s.t.Fatalf("no ledger says it\n%s", tree(s.dir))
	}
	e := lines[0]
	for _, again := range lines[1:] { // a crash says it twice
		if again.File != e.File || !again.Time.Equal(e.Time) {
			s.t.Errorf("%+v and %+v", e, again)
		}
	}
	want := Entry{Time: q.Time, Event: EventDropped, Epoch: 1, From: 4, To: 14, Size: 10, Cause: q.Reason, By: q.By}
	kept, err := filepath.Glob(filepath.Join(s.config.Output, "*", "*@kept-*"))
	s.must(err)
	if q.Action == AsideKeep {
		if want.Event, want.File = EventKept, e.File; len(kept) != 1 || filepath.Join(s.config.Output, e.File) != kept[0] {
			s.t.Fatalf("kept: %q, the ledger says %q", kept, e.File)
		}
		if b, err := os.ReadFile(kept[0]); err != nil || string(b) != "only copy\n" {
			s.t.Errorf("%s: %q, %v", kept[0], b, err)
		}
	} else if len(kept) > 0 {
		s.t.Errorf("kept: %q", kept)
	}
	if !e.Time.Equal(want.Time) {
		s.t.Errorf("time %s, want %s", e.Time, want.Time)
	}
	if e.Time = want.Time; e != want {
		s.t.Errorf("%+v, want %+v", e, want)
	}
	// It is no part of the log.
	got, err := n.central()
	s.must(err)
	if string(got) != "one\n" {
		s.t.Errorf("the log is %q", got)
	}
}

func asked(action string) AsideRequest {
	return AsideRequest{Action: action, By: "local=root@centre", Reason: "the node has them no more", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// An operator decides, of a receiver that runs or is stopped, and each step may be the last of its process, or fail once.
func TestOperatorsDecideWhatIsNotProved(t *testing.T) {
	t.Parallel()
	for _, action := range []string{AsideKeep, AsideDrop} {
		for _, op := range []string{"", opAskedName, opAskedWrite, opAskedLine, opAskedRemove} {
			for name, err := range map[string]error{"crash": errStopped, "EIO": syscall.EIO} {
				for _, done := range []bool{false, true} {
					if done && name != "crash" || op == "" && (done || name != "crash") || action == AsideDrop && (op == opAskedName || op == opAskedWrite) {
						continue
					}
					t.Run(fmt.Sprintf("%s/%s/%s/done %t", action, op, name, done), func(t *testing.T) {
						t.Parallel()
						s, n := unprovedSite(t, "web1", "syslog")
						f := &fault{op: op, done: done, err: err, hit: make(chan struct{})}
						running := op == "" || name == "EIO"
						if s.config.fault = f.check; running {
							s.startReceiver()
						}
						all, err := ListSetAside(s.config.State)
						s.must(err)
						q := asked(action)
						s.must(AskAside(s.config.State, all[0].Path, q))
						if !running {
							list, err := ListSetAside(s.config.State)
							s.must(err)
							if len(list) != 1 || list[0].Asked == nil || *list[0].Asked != q {
								t.Errorf("listed: %+v", list)
							}
							if err := AskAside(s.config.State, all[0].Path, asked(AsideDrop)); !errors.Is(err, ErrAsked) || !strings.Contains(err.Error(), "to "+action+" it, by local=root@centre") {
								t.Errorf("asked twice: %v", err)
							}
							s.startReceiver()
						}
						if op != "" {
							select {
							case <-f.hit:
							case <-time.After(time.Minute):
								t.Fatal("the fault was never met")
							}
						}
						if f.stopped() {
							if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
								t.Fatal(err)
							}
							s.config.fault = nil
							s.startReceiver()
						}
						s.isDone(n, q)
						n.send(n.make("and on\n"))
						n.waitConfirmed()
						s.must(s.stopReceiver())
					})
				}
			}
		}
	}
}

// What is proved to be the only copy is put back, whatever was asked.
func TestWhatIsProvedIsNotDropped(t *testing.T) {
	t.Parallel()
	s, _, n := onlyCopySite(t, twice)
	s.config.leaveCuts = true
	s.startReceiver()
	eventually(t, "set aside", func() (bool, string) {
		cut := cutFiles(t, s)
		return len(cut) == 1 && cut[0] == "only copy\n", fmt.Sprintf("%q", cut)
	})
	s.must(s.stopReceiver())
	all, err := ListSetAside(s.config.State)
	s.must(err)
	s.must(AskAside(s.config.State, all[0].Path, asked(AsideDrop)))
	s.config.Sweep = time.Hour
	s.startReceiver()
	eventually(t, "refuse", func() (bool, string) {
		err := s.r.doAsked(t.Context())
		return err != nil && strings.Contains(err.Error(), "proved to be the only copy"), fmt.Sprint(err)
	})
	s.must(s.stopReceiver())
	if cut := cutFiles(t, s); len(cut) != 1 {
		t.Fatalf("set aside: %q", cut)
	}
	s.config.leaveCuts, s.config.Sweep = false, 20*time.Millisecond
	s.startReceiver()
	s.isBack(n)
	eventually(t, "forget what was asked", func() (bool, string) {
		left, err := filepath.Glob(filepath.Join(s.config.State, "asked", "*", "*"))
		return err == nil && len(left) == 0, fmt.Sprint(left, err)
	})
	if lines := decisions(n); len(lines) > 0 {
		t.Errorf("%+v", lines)
	}
}

// While the record is lost nobody knows what it would prove: what is set aside waits, as it does to be put back.
func TestWhatMayBeProvedIsNotDropped(t *testing.T) {
	t.Parallel()
	s, _, n := onlyCopySite(t, twice)
	s.config.leaveCuts, s.config.Sweep = true, time.Hour
	s.startReceiver()
	eventually(t, "set aside", func() (bool, string) {
		cut := cutFiles(t, s)
		return len(cut) == 1 && cut[0] == "only copy\n", fmt.Sprintf("%q", cut)
	})
	all, err := ListSetAside(s.config.State)
	s.must(err)
	s.must(AskAside(s.config.State, all[0].Path, asked(AsideDrop)))
	js, err := jetstream.New(s.nc)
	s.must(err)
	bucket, err := js.Stream(asking(t), "KV_"+broker.Positions)
	s.must(err)
	s.must(bucket.Purge(asking(t), jetstream.WithPurgeSubject("$KV."+broker.Positions+"."+key(n.identity, n.log))))
	if err := s.r.doAsked(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody can tell yet") && !strings.Contains(err.Error(), "proved to be the only copy") {
		t.Error(err)
	}
	if cut := cutFiles(t, s); len(cut) != 1 {
		t.Fatalf("set aside: %q", cut)
	}
}

// Names that a node may choose, and requests that somebody has tampered with, reach nothing else.
func TestOperatorsDecisionsOfHostileNames(t *testing.T) {
	t.Parallel()
	for _, name := range [][2]string{
		{"web1", "../../etc/passwd"}, {"..", ".hidden"}, {"a/b", "x@kept-AAAAAAAAAAAA"}, {"web1", "new-\x1b[31m"}, {"web1", "a*?[b"}, {"web1", strings.Repeat("l", 100)}, {"web1", "x@ledger"},
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			t.Parallel()
			if chunk.CheckName(name[0]) != nil || chunk.CheckName(name[1]) != nil {
				t.Skip("the receiver refuses the name itself")
			}
			s, n := unprovedSite(t, name[0], name[1])
			all, err := ListSetAside(s.config.State)
			s.must(err)
			if len(all) != 1 || all[0].Identity != name[0] || all[0].Log != name[1] {
				t.Fatalf("%+v", all)
			}
			q := asked(AsideKeep)
			s.must(AskAside(s.config.State, all[0].Path, q))
			s.startReceiver()
			s.isDone(n, q)
		})
	}
	s, _ := unprovedSite(t, "web1", "syslog")
	all, err := ListSetAside(s.config.State)
	s.must(err)
	path := all[0].Path
	secret := filepath.Join(s.dir, "secret")
	s.must(os.WriteFile(secret, []byte("secret"), 0o600))
	for _, other := range []string{secret, filepath.Join(s.config.State, "receive.db"), path + "/../" + filepath.Base(path), "", filepath.Join(s.config.State, "cut", "web1", "syslog@1-14@11")} {
		if err := AskAside(s.config.State, other, asked(AsideDrop)); err == nil || !strings.Contains(err.Error(), "isn't set aside") {
			t.Errorf("%q: %v", other, err)
		}
	}
	for name, change := range map[string]func(*AsideRequest){
		"action": func(q *AsideRequest) { q.Action = "back" }, "nobody": func(q *AsideRequest) { q.By = " " }, "no reason": func(q *AsideRequest) { q.Reason = "" },
		"long": func(q *AsideRequest) { q.Reason = strings.Repeat("x", maxWords+1) }, "control": func(q *AsideRequest) { q.Reason = "a\nb" }, "invalid": func(q *AsideRequest) { q.By = "\xff" },
	} {
		q := asked(AsideDrop)
		if change(&q); AskAside(s.config.State, path, q) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	s.config.Sweep = time.Hour
	s.startReceiver()
	at := askedPath(path)
	s.must(os.MkdirAll(filepath.Dir(at), 0o700))
	for _, file := range []string{"../secret", secret, "web1/syslog.log", "web1/syslog@ledger.jsonl", "web1/syslog@r1@kept-AAAAAAAAAAA/.log", "web2/syslog@r1@kept-AAAAAAAAAAAA.log", "web1/../../secret@r1@kept-AAAAAAAAAAAA.log"} {
		q := asked(AsideKeep)
		q.File = file
		s.must(q.write(at))
		if err := s.r.doAsked(t.Context()); err == nil || !strings.Contains(err.Error(), "no name for it") {
			t.Errorf("%q: %v", file, err)
		}
	}
	for text, why := range map[string]string{"": "remove it", "{": "remove it", `{"action":"drop"}`: "remove it", strings.Repeat(" ", 1<<20): "remove it"} {
		s.must(os.WriteFile(at, []byte(text), 0o600))
		if err := s.r.doAsked(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.20q: %v", text, err)
		}
		if list, err := ListSetAside(s.config.State); len(list) != 1 || err == nil || !strings.Contains(err.Error(), at) {
			t.Errorf("%.20q: %+v, %v", text, list, err)
		}
	}
	s.must(os.Remove(at))
	// A link in the place of what was set aside isn't followed.
	s.must(os.Remove(path))
	s.must(os.Symlink(secret, path))
	q := asked(AsideKeep)
	s.must(q.write(at))
	if err := s.r.doAsked(t.Context()); !errors.Is(err, errNotOurs) {
		t.Errorf("a link: %v", err)
	}
	if b, err := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
	files, err := filepath.Glob(filepath.Join(s.config.Output, "*", "*"))
	s.must(err)
	if slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, "kept") }) {
		t.Errorf("%q", files)
	}
}
