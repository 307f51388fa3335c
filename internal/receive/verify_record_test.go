package receive

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logforward/internal/chunk"
)

// What somebody removed isn't what retention deleted, though a new file has its name by now.
func TestRemovedFileIsNotCalledExpired(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.startReceiver()
	n.send(n.make("somebody removes it\n"), n.gap(7))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.must(os.Remove(filepath.Join(s.config.Output, "web1", "syslog.log")))
	s.steady(n, "goes on under the same name\n")
	if v := n.verify(Damaged); v.Damaged != 20 || v.Expired != 0 {
		t.Errorf("%+v\n%s", v, tree(s.config.Output))
	}
	holes, expired, err := Holes(s.outputs(), "web1", "syslog")
	if err != nil || expired != 0 || len(holes) != 1 || holes[0].To != 20 {
		t.Errorf("%+v, %d expired, %v", holes, expired, err)
	}
}

// Bytes that the ledger itself calls lost are damaged, also where nothing came behind them.
func TestVerifyBelievesTheLedgersDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "somebody cuts it\n")
	s.must(os.Truncate(filepath.Join(s.config.Output, "web1", "syslog.log"), 4))
	s.startReceiver()
	eventually(t, "say so", func() (bool, string) { return len(n.events(EventDamage)) == 1, "" })
	s.must(s.stopReceiver())
	v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil)
	if err != nil || v.Verdict != Damaged || v.Damaged != 13 {
		t.Errorf("%+v, %v\n%s", v, err, tree(s.config.Output))
	}
}

// A node's word for a later epoch covers that one from its beginning.
func TestWitnessOfALaterEpochIsUnproved(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("twenty bytes, these.\n"))
	n.waitConfirmed()
	n.place(t, chunk.HelloLog{Epoch: 5, Predecessor: 1, Stored: 30, Confirmed: 30, Digest: 7})
	n.epoch, n.prev, n.position, n.digest = 5, 1, 30, 7
	n.send(n.make("goes on\n"))
	n.waitConfirmed()
	v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil)
	if err != nil || v.Damaged != 0 {
		t.Errorf("%+v, %v\n%s", v, err, tree(s.config.Output))
	}
}

// A log that only the record knows is missing, as a part would be.
func TestLogThatIsNotHereIsDamaged(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "a line\n")
	v := NotHere("web1", "syslog", n.proofs())
	if v.Verdict != Damaged || v.Damaged != 7 || !strings.Contains(v.Parts[0].Why, "no ledger below these directories") {
		t.Errorf("%+v", v)
	}
}

// A record that can't be read is told apart from a broker that can't be asked.
func TestProofsOfABrokenRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "a line\n")
	records := s.records()
	_, revision, err := records.Get(asking(t), key("web1", "syslog"))
	s.must(err)
	_, err = update(t.Context(), records, key("web1", "syslog"), []byte("{"), revision)
	s.must(err)
	if _, _, err := Proofs(asking(t), records, "web1", "syslog"); !errors.Is(err, ErrRecord) {
		t.Error(err)
	}
}
