package forward

import (
	"os"
	"path/filepath"
	"testing"
)

// The state's file is emptied while it is in use. A log that begins only reads from it, and must not wait for another one that writes.
func TestForwardBeginsALogThoughTheStateIsDamaged(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.start()
	n.append("app", []byte("one\n"))
	if err := os.Truncate(filepath.Join(n.state, stateFile), 0); err != nil {
		t.Fatal(err)
	}
	n.engine.Set([]Log{n.log("app")})
	n.delivered("app", []byte("one\n"))
	n.crash()
	n.append("app", []byte("two\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\ntwo\n"))
}

// The damaged file may be gone from its place: an earlier try to begin a new one found no room, or somebody has moved it away.
func TestStateBeginsAnewThoughTheDamagedFileIsAway(t *testing.T) {
	t.Parallel()
	for _, write := range []bool{true, false} {
		s := openState(t, t.TempDir())
		if err := s.Put("node", "a", []byte("1")); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(s.dir, stateFile)
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !write {
			if v, err := s.Get("node", "a"); v != nil || err != nil {
				t.Errorf("%q, %v", v, err)
			}
		}
		if err := s.Put("node", "a", []byte("2")); err != nil {
			t.Error(err)
		}
		if v, err := s.Get("node", "a"); string(v) != "2" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	}
}

// Where no new file can be begun either, that is an error, until it can.
func TestStateBeginsAnewOnceItCan(t *testing.T) {
	t.Parallel()
	s := openState(t, filepath.Join(t.TempDir(), "state"))
	if err := s.Put("node", "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.dir, stateFile), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Put("node", "a", []byte("2")); err == nil {
			t.Fatal("written without a directory")
		}
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("node", "a", []byte("3")); err != nil {
		t.Error(err)
	}
}
