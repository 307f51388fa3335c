package forward

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"logforward/internal/chunk"

	bolt "go.etcd.io/bbolt"
)

func openState(t *testing.T, dir string) *State {
	t.Helper()
	s, err := OpenState(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStateKeepsOthersValues(t *testing.T) {
	dir := t.TempDir()
	s := openState(t, dir)
	for _, k := range []string{"b", "a"} {
		if err := s.Put("node.overrides", k, []byte("value of "+k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(bucketCheckpoints, "x", nil); err == nil {
		t.Error("a bucket of its own could be written")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openState(t, dir)
	if v, err := s.Get("node.overrides", "a"); err != nil || string(v) != "value of a" {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := s.Get("node.overrides", "none"); err != nil || v != nil {
		t.Errorf("%q, %v", v, err)
	}
	var keys []string
	if err := s.Each("node.overrides", func(k string, v []byte) error { keys = append(keys, k); return s.Delete("node.overrides", k) }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(keys) != "[a b]" {
		t.Errorf("keys %v", keys)
	}
	if v, _ := s.Get("node.overrides", "a"); v != nil {
		t.Errorf("deleted, but %q", v)
	}
}

func TestStateIsLockedAndSaysByWhom(t *testing.T) {
	dir := t.TempDir()
	s := openState(t, dir)
	_, err := OpenState(dir, nil)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openState(t, dir)
	if fi, err := os.Stat(filepath.Join(dir, stateFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestStateCorruptFileIsSetAside(t *testing.T) {
	whole := func(t *testing.T) (string, []byte) {
		dir := t.TempDir()
		s := openState(t, dir)
		for i := range 200 {
			if err := s.Put("node", fmt.Sprint(i), bytes.Repeat([]byte{byte(i)}, 500)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		return dir, b
	}
	damage := map[string]func([]byte) []byte{
		"garbage":      func(b []byte) []byte { return bytes.Repeat([]byte("garbage "), 4096) },
		"short":        func(b []byte) []byte { return b[:100] },
		"cut":          func(b []byte) []byte { return b[:len(b)/2] },
		"cut by a bit": func(b []byte) []byte { return b[:len(b)/3+77] },
		"both metas":   func(b []byte) []byte { clear(b[:8192]); return b },
		"pages zeroed": func(b []byte) []byte { clear(b[8192:]); return b },
		"pages random": func(b []byte) []byte {
			r := seeded(t)
			for i := 8192; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		},
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			dir, b := whole(t)
			if err := os.WriteFile(filepath.Join(dir, stateFile), f(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openState(t, dir)
			if err := s.Put("node", "after", []byte("works")); err != nil {
				t.Errorf("after the damage: %v", err)
			}
			if v, err := s.Get("node", "after"); err != nil || string(v) != "works" {
				t.Errorf("%q, %v", v, err)
			}
			aside, err := filepath.Glob(filepath.Join(dir, "forward.db.corrupt-*"))
			if err != nil || len(aside) != 1 {
				t.Errorf("set aside: %v, %v", aside, err)
			}
		})
	}
	t.Run("empty is new", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openState(t, dir).Put("node", "a", nil); err != nil {
			t.Error(err)
		}
	})
}

func TestStateCorruptRecordIsOneLogsLoss(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("a", []byte("a\n"))
	n.append("b", []byte("b\n"))
	n.start(n.log("a"), n.log("b"))
	n.delivered("a", []byte("a\n"))
	n.delivered("b", []byte("b\n"))
	n.stop()
	s := openState(t, n.state)
	err := s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketCheckpoints))
		key := []byte(recordKey("central", "a"))
		raw := bytes.Clone(b.Get(key))
		raw[len(raw)/2] ^= 1
		return b.Put(key, raw)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n.append("a", []byte("more\n"))
	n.append("b", []byte("more\n"))
	n.start()
	// Its position comes from the centre.
	n.delivered("a", []byte("a\nmore\n"))
	n.delivered("b", []byte("b\nmore\n"))
	n.stop()
	s = openState(t, n.state)
	kept := 0
	if err := s.view(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketCorrupt)).ForEach(func(k, v []byte) error { kept++; return nil })
	}); err != nil || kept != 1 {
		t.Errorf("%d records set aside, %v", kept, err)
	}
}

func TestForwardCorruptStateFileCostsNothing(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("a", []byte("a\n"))
	n.start(n.log("a"))
	n.delivered("a", []byte("a\n"))
	n.stop()
	if err := os.WriteFile(filepath.Join(n.state, stateFile), bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	n.append("a", []byte("more\n"))
	n.start()
	n.delivered("a", []byte("a\nmore\n"))
}

func FuzzRecord(f *testing.F) {
	good := record{Log: "app", Destination: "central", Epoch: 5, Predecessor: 4, Reserved: 9, Digest: 7, Layout: &chunk.Layout{ID: "x", Prefix: "logs", Partitions: 2}}
	raw, err := good.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[21:])
	f.Add([]byte(`{"log":"a","epoch":1,"reserved":1,"confirmed":2}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"log":"a","tail":{"version":1,"segments":[{"length":18446744073709551615}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeRecord(b); err != nil && !errors.Is(err, errCorrupt) {
			t.Errorf("%v", err)
		}
		r, err := decodeRecord(seal(b))
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		if r.Confirmed > r.Reserved || r.Epoch > chunk.MaxPosition || chunk.CheckName(r.Log) != nil {
			t.Errorf("accepted %+v", r)
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(again); err != nil {
			t.Errorf("its own encoding is refused: %v", err)
		}
	})
}

// A damaged database can have writes go where no file has a place. That is no disk's trouble, which would be waited out for ever, but damage.
func TestStateDamageThatOnlyWritesMeet(t *testing.T) {
	dir := t.TempDir()
	s := openState(t, dir)
	if err := s.Put("node", "before", []byte("x")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := true
	err = s.update(func(tx *bolt.Tx) error {
		if first {
			first = false
			_, err := f.WriteAt([]byte("x"), -4096)
			return err
		}
		return put(tx, "node", "after", seal([]byte("works")))
	})
	if err != nil {
		t.Errorf("after the damage: %v", err)
	}
	if v, err := s.Get("node", "after"); err != nil || string(v) != "works" {
		t.Errorf("%q, %v", v, err)
	}
	for _, e := range []error{&os.PathError{Op: "write", Err: syscall.ENOSPC}, &os.PathError{Op: "write", Err: syscall.EROFS}, &os.PathError{Op: "write", Err: syscall.EIO}, &os.PathError{Op: "write", Err: os.ErrClosed}, &os.PathError{Op: "open", Err: syscall.EINVAL}} {
		if corruption(e) {
			t.Errorf("%v counts as damage of the file's content", e)
		}
	}
}
