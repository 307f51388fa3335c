package receive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Where names end as the log's does, one log's compressed file would have the name of another's.
func TestCompressedNameIsNoOtherLogs(t *testing.T) {
	t.Parallel()
	for how, ending := range map[string]string{"gzip": ".gz", "zstd": ".zst"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var c clock
			c.middle(time.Hour)
			s := newSite(t, func(config *Config) {
				config.FilePattern, config.Compress, config.Now, config.Sweep = "{identity}/%H/{log}", how, c.now, time.Hour
			})
			s.startReceiver()
			plain, other := s.node("web1", "app"), s.node("web1", "app"+ending)
			plain.send(plain.make("a line\n"))
			plain.waitConfirmed()
			other.send(other.make("what a glob found beside it\n"))
			other.waitConfirmed()
			c.forward(time.Hour)
			for _, n := range []*node{plain, other} {
				eventually(t, "close it", func() (bool, string) { return len(n.events(EventClose)) == 1, tree(s.config.Output) })
			}
			eventually(t, "both are closed", func() (bool, string) {
				files, err := s.r.state.closedFiles()
				return err == nil && len(files) == 2, fmt.Sprint(files, err)
			})
			if err := s.r.sweepOnce(t.Context()); err != nil {
				t.Error(err)
			}
			plain.same()
			other.same()
		})
	}
}

// Somebody has taken the thousand names that a log's files could have: neither it nor the logs that are named with it wait for that.
func TestTakenNamesHoldUpNoLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(config *Config) { config.FilePattern = "{identity}/{log}.log" })
	names, err := newNaming("{identity}/{log}.log", s.config.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.config.Output, "web1"), 0o755); err != nil {
		t.Fatal(err)
	}
	variant := names.variants("web1", "app", time.Now())
	for i := range 1000 {
		for _, name := range []string{variant(i), names.ledgerName("web1", "app", i)} {
			if err := os.WriteFile(filepath.Join(s.config.Output, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.startReceiver()
	app, other := s.node("web1", "app"), s.node("web1", "other")
	app.send(app.make("a line\n"))
	other.send(other.make("another\n"))
	other.waitConfirmed()
	app.waitConfirmed()
	app.same()
	other.same()
}

// In a shared directory no receiver may choose a name that another one could have chosen before: after a crash it couldn't tell whose the file is.
func TestNamesOfReceiversNeverMeet(t *testing.T) {
	t.Parallel()
	names := make(map[string]string)
	for _, receiver := range []string{"r1", "r1-2", "r1-10", "r1@2", "r1-2-2", "20060102T150405Z"} {
		n, err := newNaming("{identity}/{log}.log", receiver)
		if err != nil {
			t.Fatal(err)
		}
		n.suffixed = true
		variant := n.variants("web1", "syslog", time.Now())
		for i := range 20 {
			for _, name := range []string{variant(i), n.ledgerName("web1", "syslog", i)} {
				if whose, taken := names[name]; taken && whose != receiver {
					t.Errorf("%s is %s's and %s's", name, whose, receiver)
				}
				names[name] = receiver
			}
		}
	}
}

// A pattern's names may come again. One whose file was taken away by hand is no other file's while retention still means the old one by it.
func TestNameThatComesAgain(t *testing.T) {
	t.Parallel()
	var c clock
	c.middle(time.Hour)
	s := newSite(t, func(config *Config) {
		config.FilePattern, config.Now, config.RetainAge = "{identity}/{log}-%H.log", c.now, 23*time.Hour+10*time.Minute
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("yesterday's\n"))
	n.waitConfirmed()
	c.forward(time.Hour)
	eventually(t, "close it", func() (bool, string) { files, err := s.r.state.closedFiles(); return err == nil && len(files) == 1, "" })
	name := n.events(EventClose)[0].Name
	s.must(os.Rename(filepath.Join(s.config.Output, name), filepath.Join(s.dir, "archive")))
	c.forward(23 * time.Hour)
	n.send(n.make("today's line is longer\n"))
	n.waitConfirmed()
	if got, err := n.central(); err != nil || string(got) != "today's line is longer\n" {
		t.Errorf("%q, %v", got, err)
	}
	if v := n.verify(Damaged); v.Damaged != 12 || v.Expired != 0 {
		t.Errorf("%+v", v)
	}
	c.forward(15 * time.Minute)
	eventually(t, "expire", func() (bool, string) {
		files, err := s.r.state.closedFiles()
		return err == nil && len(files) == 0, tree(s.config.Output)
	})
	n.send(n.make("and another\n"))
	n.waitConfirmed()
	if got, err := n.central(); err != nil || string(got) != "today's line is longer\nand another\n" {
		t.Errorf("%q, %v\n%s", got, err, tree(s.config.Output))
	}
}

// The same where nothing remembers the old file: what its positions were isn't read out of the new one.
func TestNameThatComesAgainInTheLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(f float64) time.Time { return time.Unix(int64(f), 0) }
	var ledger bytes.Buffer
	for _, e := range []Entry{
		{Time: at(1), Event: EventRange, Epoch: 1, File: "web1/syslog-10.log"},
		{Time: at(2), Event: EventClose, Epoch: 1, To: 4, File: "web1/syslog-10.log", Name: "web1/syslog-10.log", Size: 4},
		{Time: at(3), Event: EventRange, Epoch: 1, From: 4, File: "web1/syslog-10.log"},
	} {
		line, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		ledger.Write(line)
	}
	if err := os.Mkdir(filepath.Join(dir, "web1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"syslog@ledger.jsonl": ledger.String(), "syslog-10.log": "new bytes"} {
		if err := os.WriteFile(filepath.Join(dir, "web1", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if missing, err := Cat(&b, []string{dir}, "web1", "syslog"); err != nil || missing != 1 || b.String() != "new bytes" {
		t.Errorf("%q, %d missing, %v", b.String(), missing, err)
	}
	v, err := Verify(t.Context(), []string{dir}, "web1", "syslog", nil)
	if err != nil || v.Damaged != 4 || v.Expired != 0 {
		t.Errorf("%+v, %v", v, err)
	}
}
