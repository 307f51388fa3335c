package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// stoppedAt has the receiver of an only copy end right before, or behind, a step of putting it back.
func stoppedAt(t *testing.T, op string, done bool) (s *site, n *node) {
	t.Helper()
	s, _, n = onlyCopySite(t, twice)
	f := &fault{op: op, done: done, err: errStopped, hit: make(chan struct{})}
	s.config.fault = f.check
	s.startReceiver()
	select {
	case <-f.hit:
	case <-time.After(time.Minute):
		t.Fatal("the step never came")
	}
	if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	s.config.fault = nil
	return s, n
}

// What somebody does to the file between its making and the record that names it doesn't become the log's: it is made anew.
func TestWhatIsPutBackIsMadeAnewWhereItWasTakenAway(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"removed":   os.Remove,
		"cut short": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := stoppedAt(t, opBackLine, false)
			files, err := filepath.Glob(filepath.Join(s.dir, "out", "*", "*@back-*"))
			s.must(err)
			if len(files) != 1 {
				t.Fatalf("%q\n%s", files, tree(s.dir))
			}
			s.must(damage(files[0]))
			s.startReceiver()
			s.isBack(n)
		})
	}
}

// Bytes that changed while they were set aside aren't put back.
func TestWhatChangedAsideIsNotPutBack(t *testing.T) {
	t.Parallel()
	s, n := stoppedAt(t, opBackName, true)
	files, err := filepath.Glob(filepath.Join(s.config.State, "cut", "*", "*"))
	s.must(err)
	if len(files) != 1 {
		t.Fatalf("%q\n%s", files, tree(s.dir))
	}
	b, err := os.ReadFile(files[0])
	s.must(err)
	b[2] ^= 1
	s.must(os.WriteFile(files[0], b, 0o600))
	s.config.Sweep = time.Hour
	s.startReceiver()
	if err := s.r.putBackAll(t.Context()); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("it was put back: %v", err)
	}
	value, _, err := s.records().Get(asking(t), key(n.identity, n.log))
	s.must(err)
	rec, err := parseRecord(value)
	s.must(err)
	if slices.ContainsFunc(rec.Ranges, func(s span) bool { return s.Back }) {
		t.Errorf("the record names it: %+v", rec.Ranges)
	}
	if left := cutFiles(t, s); len(left) != 1 {
		t.Errorf("set aside: %q", left)
	}
}

// What is put back is synced with its directories before anything says that it is there.
func TestWhatIsPutBackIsSynced(t *testing.T) {
	t.Parallel()
	s, _, n := onlyCopySite(t, twice)
	var mu sync.Mutex
	var steps []string
	writing := false
	s.config.fault = func(op string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op == opBackWrite:
			writing = !done
		case writing && done:
			steps = append(steps, op)
		}
		return nil
	}
	s.startReceiver()
	eventually(t, "written", func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return len(steps) > 0 && !writing, fmt.Sprintf("%q", steps)
	})
	s.isBack(n)
	mu.Lock()
	defer mu.Unlock()
	file, dir := slices.Index(steps, opSync), slices.Index(steps, opSyncDir)
	if file < 0 || dir < 0 {
		t.Errorf("while it was written: %q", steps)
	}
}
