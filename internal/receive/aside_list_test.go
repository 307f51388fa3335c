package receive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsSetAsideIsListed(t *testing.T) {
	t.Parallel()
	s, _ := asideSite(t, func(rec *record, n *node) {
		rec.Place.Position, rec.Place.Digest = n.position, n.digest
		rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: 10, To: 15})
	})
	all, err := ListSetAside(s.config.State)
	s.must(err)
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	a := all[0]
	b, err := os.ReadFile(a.Path)
	s.must(err)
	if string(b) != "prepared\n" || a.Bytes != int64(len(b)) || a.Identity != "web1" || a.Log != "syslog" || a.Since.IsZero() || !a.Noted {
		t.Errorf("%q of %+v", b, a)
	}
	run := AsideRun{Epoch: 1, From: 10, To: 19, Offset: 0}
	if len(a.Runs) != 1 || a.Runs[0] != run {
		t.Errorf("runs %+v, want %+v", a.Runs, run)
	}
	s.must(s.r.sweepOnce(t.Context()))
	if got := gathered(t, s.r.metrics.aside).GetGauge().GetValue(); got != float64(a.Bytes) {
		t.Errorf("metric: %v bytes, want %d", got, a.Bytes)
	}
	// Without its note the name tells of the positions.
	s.must(os.RemoveAll(filepath.Join(s.config.State, "aside")))
	all, err = ListSetAside(s.config.State)
	s.must(err)
	if run.Offset = -1; len(all) != 1 || all[0].Noted || len(all[0].Runs) != 1 || all[0].Runs[0] != run {
		t.Errorf("without the note: %+v", all)
	}
	// What can't be read is said, and the rest is given.
	s.must(os.WriteFile(filepath.Join(filepath.Dir(a.Path), "odd"), nil, 0o600))
	s.must(os.MkdirAll(filepath.Join(s.config.State, "aside", "web1"), 0o700))
	s.must(os.WriteFile(filepath.Join(s.config.State, "aside", "web1", filepath.Base(a.Path)+".json"), []byte("{"), 0o600))
	all, err = ListSetAside(s.config.State)
	if len(all) != 1 || err == nil || !strings.Contains(err.Error(), "web1/odd") || !strings.Contains(err.Error(), ".json") {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := ListSetAside(filepath.Join(s.dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no state: %v", err)
	}
}
