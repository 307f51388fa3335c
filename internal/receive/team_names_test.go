package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logforward/internal/broker"
)

// Two receivers of one name aren't let work side by side, and the later one says why.
func TestTwoReceiversOfOneName(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	divided(t, 1, s)
	twin := s.beside("r1", true)
	twin.config.State = filepath.Join(s.dir, "state-twin")
	twin.startReceiver()
	eventually(t, "say what is wrong", func() (bool, string) {
		said := strings.Join(twin.r.Health(), "\n")
		return strings.Contains(said, `another receiver named "r1"`) && strings.Contains(said, "give one of them another name"), said
	})
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	if len(s.works()) != 1 || len(twin.works()) != 0 {
		t.Errorf("the first works %v, its twin %v", s.works(), twin.works())
	}
	s.must(s.stopReceiver())
	divided(t, 1, twin)
	n.send(n.make("y\n"))
	n.waitConfirmed()
	n.same()
}

// A machine that was copied, state directory and all, doesn't take part beside the one it was copied from; one that has
// replaced it does.
func TestCopyOfAReceiversMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "before the copy\n")
	twin := s.beside("r1", true)
	twin.config.State = filepath.Join(s.dir, "state-copy")
	s.must(os.CopyFS(twin.config.State, os.DirFS(s.config.State)))
	s.startReceiver()
	divided(t, 1, s)
	c := twin.config
	c.Broker = broker.Options{Server: s.server}
	twin.r = New(c)
	s.must(twin.r.Open(t.Context()))
	twin.r.sharing.host = "copy.example.net"
	twin.run()
	eventually(t, "say what is wrong", func() (bool, string) {
		said := strings.Join(twin.r.Health(), "\n")
		return strings.Contains(said, `another receiver named "r1"`), said
	})
	n.send(n.make("after it\n"))
	n.waitConfirmed()
	n.same()
	if len(s.works()) != 1 || len(twin.works()) != 0 {
		t.Errorf("the first works %v, its copy %v", s.works(), twin.works())
	}
	s.must(s.stopReceiver())
	divided(t, 1, twin)
	n.send(n.make("of the copy\n"))
	n.waitConfirmed()
	n.same()
}

// Plain names in a directory are one receiver's: another's first file has its name even where the plain one is free.
func TestPlainNamesAreOneReceivers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	r2 := s.beside("r2", true)
	s.steady(s.node("web1", "first"), "of r1\n")
	n := s.node("web1", "second")
	r2.steady(n, "of r2\n")
	for name, want := range map[string]bool{"second.log": false, "second@ledger.jsonl": false, "second@r2.log": true, "second@ledger@r2.jsonl": true} {
		if got := exists(filepath.Join(s.config.Output, "web1", name)); got != want {
			t.Errorf("%s is there: %t, want %t", name, got, want)
		}
	}
	n.same()
}

// A receiver that crashed when it had chosen plain names, which are another's now, takes the other's files for its own no more.
func TestPlainNamesThatChangedHands(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	f := s.crashAt(opNames, true)
	s.startReceiver()
	n.send(n.make("in the file of r2\n"))
	s.crashed(f)
	s.must(os.WriteFile(filepath.Join(s.config.Output, plainNames), []byte("r2\n"), 0o640))
	r2 := s.beside("r2", true)
	r2.startReceiver()
	n.waitConfirmed()
	s.must(r2.stopReceiver())
	s.startReceiver()
	n.send(n.make("of r1\n"))
	n.waitConfirmed()
	n.same()
	if !exists(filepath.Join(s.config.Output, "web1", "syslog.log")) {
		t.Error("the other's file is gone")
	}
}

// A receiver that has taken a log over without bytes, and begins again before the first, tells its ledger where they go.
func TestRangeBegunAfterARestartIsInTheLedger(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	r2 := s.beside("r2", false)
	s.steady(n, "of r1\n")
	r2.steady(n, "of r2\n")
	s.startReceiver()
	eventually(t, "take it over", func() (bool, string) {
		lo, err := s.r.state.log(key("web1", "syslog"))
		s.must(err)
		return lo.Committed.Place.Position == n.position, fmt.Sprint(lo.Committed.Place.Position)
	})
	s.must(s.stopReceiver())
	s.steady(n, "of r1 again\n")
	n.same()
}
