package tail

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzState: a state that is damaged or made up gives an error or a sane start.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "app.log")
	if err := os.WriteFile(path, []byte(lines("a", 20)), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path+".1", []byte(lines("b", 20)), 0o644); err != nil {
		f.Fatal(err)
	}
	allowed := allow(f, dir+"/**")
	cfg := Config{Path: path, Start: StartBeginning, Allowed: allowed}
	l := New(cfg)
	if err := l.Open(State{}); err != nil {
		f.Fatal(err)
	}
	for range 3 {
		p, err := l.Peek(make([]byte, 100))
		if err != nil {
			f.Fatal(err)
		}
		if err := l.Advance(uint64(len(p.Data))); err != nil {
			f.Fatal(err)
		}
		b, err := json.Marshal(l.State())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		l.Lose(10, 20, "x")
	}
	_ = l.Close()
	for _, s := range []string{
		`{}`, `{"version":2}`, `{"released":5}`, `{"version":1,"released":18446744073709551615}`,
		`{"version":1,"segments":[{"position":0,"length":5,"generation":"x"}]}`,
		`{"version":1,"generations":[{"offset":-1}]}`, `{"version":1,"generations":[{"offset":4611686018427387904,"size":1}]}`,
		`{"version":1,"generations":[{"id":"1-1-1-1-1","head":{"length":99999}}]}`,
		`{"version":1,"segments":[{"position":0,"length":4611686018427387904,"loss":{"Length":4611686018427387904}}]}`,
		`{"version":1,"generations":[{"path":"/etc/shadow","dev":1,"ino":2,"offset":3,"check":{"length":3}}]}`,
		`{"version":1,"generations":[{"gone":"x","loss":{"Length":5,"Bytes":-1}}],"serial":18446744073709551615}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if json.Unmarshal(b, &s) != nil {
			return
		}
		l := New(cfg)
		if l.Open(s) != nil {
			return
		}
		defer l.Close()
		buf := make([]byte, 64)
		for range 50 {
			p, err := l.Peek(buf)
			if err != nil {
				break
			}
			n := uint64(len(p.Data))
			if p.Loss != nil {
				n = p.Loss.Length
			}
			if n == 0 {
				break
			}
			if p.Position != l.Position() {
				t.Fatalf("piece at %d, log at %d", p.Position, l.Position())
			}
			if l.Advance(n) != nil {
				break
			}
			_ = l.AdvanceTo(l.Position() + 3)
		}
		l.Lose(l.Released(), l.Released()+9, "x")
		_ = l.Seek(l.Released())
		_, _ = l.Peek(buf)
		_ = l.Release(l.Released() + (l.Head()-l.Released())/2)
		_ = l.Pending()
		_ = l.Status()
		_ = l.Sources()
		again := l.State()
		fresh := New(cfg)
		if err := fresh.Open(roundTrip(t, again)); err != nil {
			t.Fatalf("own state refused: %v\n%s", err, b)
		}
		_ = fresh.Close()
	})
}

// FuzzSourceID: the centre's word is outside input too.
func FuzzSourceID(f *testing.F) {
	f.Add(newID(1, 2, sum{3, 4}, 5))
	f.Add("1-1-1-1-1")
	f.Add("-----")
	f.Fuzz(func(t *testing.T, id string) {
		dev, ino, head, serial, err := parseID(id)
		if err != nil {
			return
		}
		again := newID(dev, ino, head, serial)
		d, i, h, s, err := parseID(again)
		if err != nil || d != dev || i != ino || h != head || s != serial {
			t.Fatalf("%q became %q: %v", id, again, err)
		}
	})
}

func FuzzRotationNames(f *testing.F) {
	f.Add("app.log.1", "app.log")
	f.Add("app-2026-11-22.log.gz", "app.log")
	f.Add(".gz", "")
	f.Fuzz(func(t *testing.T, name, base string) {
		if isRotation(name, base) && !isRelated(name, base) {
			t.Fatalf("%q is a rotated form of %q and not related to it", name, base)
		}
		_ = rotationNumber(name, base)
	})
}
