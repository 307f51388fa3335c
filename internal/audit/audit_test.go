package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
)

func some(reason string) Decision {
	return Decision{Action: "pause", Allowed: true, Caller: "choria=alice.mcollective", Request: "1f", Route: "socket", Inputs: map[string]any{"log": "app", "reason": reason}}
}

// lines are the events of a file; each must be whole and valid.
func lines(t *testing.T, file string) (all []Decision) {
	t.Helper()
	return read(t, file, "app")
}

// decisions are those about whatever log.
func decisions(t *testing.T, file string) []Decision {
	t.Helper()
	return read(t, file, "")
}

func read(t *testing.T, file, subject string) (all []Decision) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var e event.Event
		var d Decision
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, s.Bytes())
		}
		if err := e.Validate(); err != nil || e.Type() != Type || e.Source() != "/logforward/web1.example.net" || subject != "" && e.Subject() != subject || e.Time().IsZero() {
			t.Fatalf("%v: %s", err, s.Bytes())
		}
		if err := e.DataAs(&d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func TestEachDecisionIsOneEvent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "below", "audit.log")
	l := New(file, "web1.example.net", 0, 0)
	defer l.Close()
	for _, reason := range []string{"one", "two\nlines", "\x1b[2J", `"quoted"`} {
		if err := l.Record(some(reason)); err != nil {
			t.Fatal(err)
		}
	}
	got := lines(t, file)
	if len(got) != 4 || got[1].Inputs["reason"] != "two\nlines" || !got[0].Allowed || got[0].Caller != "choria=alice.mcollective" {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(b), "\x1b") {
		t.Error("the file can play with a terminal")
	}
}

// However often it rotates, nothing is missing in the files that are kept.
// What a loss of power has left of a line costs that line alone.
func TestLineCutShort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	for _, reason := range []string{"one", "two"} {
		l := New(file, "web1.example.net", 0, 0)
		if err := l.Record(some(reason)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, int64(len(whole)-30)); err != nil {
		t.Fatal(err)
	}
	l := New(file, "web1.example.net", 0, 0)
	defer l.Close()
	if err := l.Record(some("three")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitAfter(string(b), "\n")
	if len(parts) != 4 || json.Valid([]byte(parts[1])) {
		t.Fatalf("%q", parts)
	}
	if err := os.WriteFile(file, []byte(parts[0]+parts[2]), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, file); len(got) != 2 || got[1].Inputs["reason"] != "three" {
		t.Errorf("%+v", got)
	}
}

func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l := New(file, "web1.example.net", 2000, 3)
	defer l.Close()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 25 {
				if err := l.Record(some("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	names, err := filepath.Glob(file + "*")
	if err != nil || len(names) != 4 {
		t.Fatalf("%v, %v", names, err)
	}
	each := len(lines(t, file+".1"))
	if len(lines(t, file+".2")) != each || len(lines(t, file+".3")) != each || each < 3 {
		t.Errorf("%d lines in a file", each)
	}
	// Another rotates, too.
	if err := os.Rename(file, file+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(some("after")); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, file); len(got) != 1 || got[0].Inputs["reason"] != "after" {
		t.Errorf("%+v", got)
	}
}

func TestHostileFile(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(file string) error{
		"a link":          func(file string) error { return os.Symlink(target, file) },
		"a pipe":          func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a directory":     func(file string) error { return os.Mkdir(file, 0o700) },
		"two names":       func(file string) error { return os.Link(target, file) },
		"below a file":    nil,
		"below a nothing": nil,
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		switch name {
		case "below a file":
			file = filepath.Join(target, "audit.log")
		case "below a nothing":
			file = "/proc/none/audit.log"
		default:
			if err := make(file); err != nil {
				t.Fatal(err)
			}
		}
		l := New(file, "web1.example.net", 0, 0)
		if err := l.Record(some("x")); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
	if b, err := os.ReadFile(target); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}

// A disk that fills up in the middle of a line leaves no half line.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8192"); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	file := filepath.Join(dir, "audit.log")
	l := New(file, "web1.example.net", 0, 0)
	defer l.Close()
	n := 0
	for ; n < 100; n++ {
		if err := l.Record(some("x")); err != nil {
			break
		}
	}
	if n == 100 {
		t.Fatal("the disk was never full")
	}
	if got := lines(t, file); len(got) != n {
		t.Errorf("%d lines of %d decisions", len(got), n)
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(some("again")); err != nil {
		t.Error(err)
	}
}

func BenchmarkRecord(b *testing.B) {
	l := New(filepath.Join(b.TempDir(), "audit.log"), "web1.example.net", 0, 0)
	defer l.Close()
	for b.Loop() {
		if err := l.Record(some("x")); err != nil {
			b.Fatal(err)
		}
	}
}

// As long as somebody needs what is in them, older files stay; with a bound, and what that costs is counted.
func TestFilesThatAreNeededStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l := New(file, "web1.example.net", 2000, 2)
	defer l.Close()
	needed, known := int64(0), false
	l.Unsent = func() (int64, bool) { return needed, known }
	write := func(n int) {
		for range n {
			if err := l.Record(some("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() int {
		names, err := filepath.Glob(file + ".*")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	each := 0
	for write(1); count() == 0; write(1) {
		each++
	}
	write(each * 8)
	if got := count(); got != 9 || l.Lost() != 0 {
		t.Errorf("%d files while it isn't known what is needed, %d lost", got, l.Lost())
	}
	total := 1
	for n := 1; n <= count(); n++ {
		total += len(lines(t, l.older(n)))
	}
	if total != each*9+1 {
		t.Errorf("%d decisions of %d", total, each*9+1)
	}
	info, err := os.Stat(l.older(1))
	if err != nil {
		t.Fatal(err)
	}
	needed, known = 4*info.Size()-100, true // the file itself, and three more
	write(each)
	if got := count(); got != 4 {
		t.Errorf("%d files where three older ones and the last are needed", got)
	}
	needed = 0
	write(each)
	if got := count(); got != 2 || l.Lost() != 0 {
		t.Errorf("%d files where none is needed, %d lost", got, l.Lost())
	}
	known = false
	write(each * 2 * most * 2)
	if got := count(); got != 2*most || l.Lost() == 0 {
		t.Errorf("%d files, %d lost", got, l.Lost())
	}
}

// What root writes for a daemon of another user is that user's, also where a process that was killed had left it root's.
func TestWhatRootWritesIsTheDirectorysOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "audit.log")
	for _, there := range []bool{false, true} {
		_ = os.Remove(file)
		if there {
			if err := os.WriteFile(file, nil, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		l := New(file, "n1", 0, 0)
		if err := errors.Join(l.Record(Decision{Action: "apply", Allowed: true}), l.Close()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 65534 || s.Gid != 65534 || info.Mode().Perm() != 0o640 {
			t.Errorf("there already: %v; it is of %d:%d, %v", there, s.Uid, s.Gid, info.Mode())
		}
	}
}
