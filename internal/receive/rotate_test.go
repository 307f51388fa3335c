package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clock is the real one, set forward by a test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// middle sets it to the middle of a period, whose end is far then, whenever the test runs.
func (c *clock) middle(period time.Duration) {
	c.forward(c.now().Truncate(period).Add(3 * period / 2).Sub(c.now()))
}

// ledger is a log's ledger, which must be readable.
func (n *node) ledger() []Entry {
	n.s.t.Helper()
	names, err := Ledgers(n.s.config.Output, n.identity, n.log)
	n.s.must(err)
	var all []Entry
	for _, name := range names {
		entries, err := Ledger(filepath.Join(n.s.config.Output, name))
		n.s.must(err)
		all = append(all, entries...)
	}
	return all
}

func (n *node) events(event string) (found []Entry) {
	n.s.t.Helper()
	for _, e := range n.ledger() {
		if e.Event == event {
			found = append(found, e)
		}
	}
	return found
}

// files are the names below the output, without ledgers.
func (s *site) files() (names []string) {
	s.t.Helper()
	s.must(filepath.WalkDir(s.config.Output, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(p, "@ledger") && d.Name() != plainNames && d.Name() != outputMark {
			name, _ := filepath.Rel(s.config.Output, p)
			names = append(names, name)
		}
		return err
	}))
	return names
}

func TestRotationBySizeAtALinesEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.RotateSize = 100 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	for range 5 { // none of the first chunks ends a line, though the file is full
		n.send(n.make(strings.Repeat("a", 60)), n.make(strings.Repeat("b", 60)), n.make(strings.Repeat("c", 60)+"\n"), n.make("next\n"))
		n.waitConfirmed()
	}
	n.same()
	closed := n.events(EventClose)
	if len(closed) != 5 {
		t.Fatalf("%d files closed\n%s", len(closed), tree(s.config.Output))
	}
	for _, e := range closed {
		b, err := os.ReadFile(filepath.Join(s.config.Output, e.Name))
		s.must(err)
		if int64(len(b)) != e.Size || len(b) < 100 || b[len(b)-1] != '\n' {
			t.Errorf("%s: %d bytes, ends %q", e.Name, len(b), b[max(0, len(b)-5):])
		}
	}
}

func TestRotationByTime(t *testing.T) {
	t.Parallel()
	var c clock
	c.middle(time.Hour)
	s := newSite(t, func(config *Config) { config.RotateEvery, config.Now = time.Hour, c.now })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("first hour\n"))
	n.waitConfirmed()
	c.forward(time.Hour)
	// A quiet log's file is closed as well.
	eventually(t, "close the quiet log's file", func() (bool, string) { return len(n.events(EventClose)) == 1, tree(s.config.Output) })
	n.send(n.make("second hour, no line's end"))
	n.waitConfirmed()
	c.forward(time.Hour)
	n.send(n.make(" here\n"))
	n.waitConfirmed()
	n.send(n.make("third hour\n"))
	n.waitConfirmed()
	n.same()
	for i, e := range n.events(EventClose) {
		b, err := os.ReadFile(filepath.Join(s.config.Output, e.Name))
		s.must(err)
		if want := []string{"first hour\n", "second hour, no line's end here\n"}; string(b) != want[i] {
			t.Errorf("%s: %q", e.Name, b)
		}
	}
}

func TestRotationWaitsForALinesEndOnlySoLong(t *testing.T) {
	t.Parallel()
	names, err := newNaming("{identity}/{log}.log", "r1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		size    int64
		newline bool
		want    bool
	}{{0, true, false}, {999, true, false}, {1000, true, true}, {1000, false, false}, {overdue + 999, false, false}, {overdue + 1000, false, true}} {
		p := &partition{r: &Receiver{config: Config{RotateSize: 1000}, naming: names}}
		l := &log{identity: "a", name: "b", file: &file{size: test.size, newline: test.newline, base: names.base("a", "b", time.Now())}}
		if got := p.mustRotate(l, time.Now()); got != test.want {
			t.Errorf("%d bytes, at a line's end %t: %t", test.size, test.newline, got)
		}
	}
}

func TestPatternWithTime(t *testing.T) {
	t.Parallel()
	var c clock
	c.middle(24 * time.Hour)
	s := newSite(t, func(config *Config) {
		config.FilePattern, config.Now = "%Y/{identity}/%m/{log}-%d.txt", c.now
	})
	s.startReceiver()
	n := s.node("web1.example.net", "a b")
	var want []string
	for range 3 {
		n.send(n.make("a day's line\n"))
		n.waitConfirmed()
		want = append(want, fmt.Sprintf("%s/web1.example.net/%s/a=20b-%s.txt", c.now().UTC().Format("2006"), c.now().UTC().Format("01"), c.now().UTC().Format("02")))
		c.forward(24 * time.Hour)
	}
	n.same()
	if got := s.files(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBadPatternsAreRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		"{log}", "{identity}", "{identity}{log}", "{identity}-{log}", "{log}/{identity}", "x{identity}/{log}", "{identity}/{log}/x", "{identity}/{log}{log}", "{identity}/{identity}/{log}",
		"/{identity}/{log}", "../{identity}/{log}", "{identity}/../{log}", "./{identity}/{log}", "{identity}//{log}", "{identity}/{log}/", ".x/{identity}/{log}", "{identity}/.{log}",
		"{identity}/{log}@x", "{identity}/{log}\x00", "{identity}/{log}%n", "{identity}/{log}%t", "{identity}/{log}\n", "{identity}/{log}%D", "{identity}/{log}{x}", "{identity}/{log}}",
		"{identity}/{log}" + strings.Repeat("x", maxLiteral+1),
	} {
		if n, err := newNaming(pattern, "r1"); err == nil {
			t.Errorf("%q gives %s", pattern, n.base("i", "l", time.Now()))
		}
	}
	for _, pattern := range []string{"{identity}/{log}", "{identity}/{log}.log", "a/%Y/{identity}/%m-%d/x-{log}-%H.log", "{identity}/100%%-{log}"} {
		if _, err := newNaming(pattern, "r1"); err != nil {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

// Every name that the longest allowed log may need is one that Linux takes.
func TestNamesFit(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"{identity}/{log}", "{identity}/{log}.log", "{identity}/a-{log}-%Y%m%d.log"} {
		n, err := newNaming(pattern, strings.Repeat("r", 32))
		if err != nil {
			t.Fatal(err)
		}
		fits := 0
		for length := 1; length <= 300 && n.fits("i", strings.Repeat("l", length)) == nil; length++ {
			fits = length
		}
		log := strings.Repeat("l", fits)
		longest := n.closedName(n.variants("i", log, time.Now())(999), time.Now(), 998) + ".zst" + unfinished
		for _, name := range []string{longest, n.ledgerName("i", log, 999)} {
			if l := len(filepath.Base(name)); l > 255 || fits < 100 {
				t.Errorf("%s: a log's name of %d bytes needs %d", pattern, fits, l)
			}
		}
	}
}

func TestNamesNeverShift(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.RotateSize = 10 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	was := make(map[string]string)
	for i := range 12 {
		n.send(n.make(fmt.Sprintf("line number %d\n", i)))
		n.waitConfirmed()
		for _, e := range n.events(EventClose) {
			b, err := os.ReadFile(filepath.Join(s.config.Output, e.Name))
			s.must(err)
			if old, ok := was[e.Name]; ok && old != string(b) {
				t.Fatalf("%s held %q and holds %q", e.Name, old, b)
			}
			was[e.Name] = string(b)
		}
	}
	if len(was) < 11 {
		t.Errorf("%d names\n%s", len(was), tree(s.config.Output))
	}
	n.same()
}

// A file in the way is somebody's: it is left alone.
func TestTakenNamesGetASuffix(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	dir := filepath.Join(s.config.Output, "web1")
	s.must(os.MkdirAll(dir, 0o755))
	for _, name := range []string{"syslog.log", "syslog@ledger.jsonl"} {
		s.must(os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	s.must(os.WriteFile(filepath.Join(dir, "syslog.log"), []byte("another's\n"), 0o644))
	s.must(os.WriteFile(filepath.Join(dir, "syslog@r1.log.zst"), []byte("another's\n"), 0o644))
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("ours\n"))
	n.waitConfirmed()
	n.same()
	b, err := os.ReadFile(filepath.Join(dir, "syslog.log"))
	s.must(err)
	ours, err := os.ReadFile(filepath.Join(dir, "syslog@r1@2.log"))
	s.must(err)
	if string(b) != "another's\n" || string(ours) != "ours\n" {
		t.Errorf("%q, %q\n%s", b, ours, tree(s.config.Output))
	}
}
