package forward

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// Two files with the same end, of which the first is rotated. Only where every byte from what is confirmed on to the centre's place is theirs, in
// the order in which the place has them, may what is before the place be left out.
func TestAPlaceInAnotherOrderIsProvedByEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	first, second := bytes.Repeat([]byte("of the first file\n"), 100), bytes.Repeat([]byte("of the second one\n"), 50)
	grow := func(path string, data []byte) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.Write(data)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	allowed, err := tail.ParseAllowed([]string{filepath.Dir(path) + "/**"})
	if err != nil {
		t.Fatal(err)
	}
	log := tail.New(tail.Config{Allowed: allowed, Name: "app", Path: path, Start: tail.StartBeginning, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	grow(path, first)
	if err := log.Open(tail.State{}); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	read := func(n int) {
		t.Helper()
		for buf := make([]byte, 256); n > 0; {
			piece, err := log.Peek(buf)
			if len(piece.Data) > 0 {
				err = log.Advance(uint64(len(piece.Data)))
			} else {
				now = now.Add(2 * time.Second) // what is quiet may be gone on from
			}
			if err != nil || now.After(time.Now().Add(time.Minute)) {
				t.Fatalf("%d bytes are left: %v", n, err)
			}
			n -= len(piece.Data)
		}
	}
	read(len(first))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	grow(path, second)
	if err := log.Look(); err != nil {
		t.Fatal(err)
	}
	read(len(second))
	sources := log.Sources()
	if len(sources) != 2 {
		t.Fatalf("%+v", sources)
	}
	a, b := sources[0].ID, sources[1].ID
	end := func(id string, offset int) chunk.Source { return chunk.Source{File: id, Offset: int64(offset)} }
	digest := func(parts ...[]byte) (d chunk.Digest) {
		for _, p := range parts {
			d = d.Update(p)
		}
		return d
	}
	other := append([]byte("OF"), first[2:]...)
	whole := len(first) + len(second)
	for _, tc := range []struct {
		name     string
		position int
		digest   chunk.Digest
		from     map[string]int64
		sources  []chunk.Source
		want     bool
	}{
		{"in order", whole, digest(first, second), map[string]int64{a: 0, b: 0}, []chunk.Source{end(a, len(first)), end(b, len(second))}, true},
		{"in another order", whole, digest(second, first), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)), end(a, len(first))}, true},
		{"in the other order than it says", whole, digest(first, second), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)), end(a, len(first))}, false},
		{"other bytes in front, the same end", whole, digest(second, other), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)), end(a, len(first))}, false},
		{"more bytes than the files have", whole + 1, digest(second, first), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)), end(a, len(first))}, false},
		{"fewer", whole - 1, digest(second, first), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)), end(a, len(first))}, false},
		{"one was confirmed further than the place has it", len(second), digest(second), map[string]int64{a: 18, b: 0}, []chunk.Source{end(b, len(second)), end(a, 0)}, false},
		{"a file that ends before", len(second) + 1, digest(second, []byte("x")), map[string]int64{a: 0, b: 0}, []chunk.Source{end(b, len(second)+1)}, false},
		{"one that was finished before", len(second), digest(second), map[string]int64{b: 0}, []chunk.Source{end(a, len(first)), end(b, len(second))}, true},
	} {
		f := &forwarder{engine: &Engine{}}
		f.engine.cfg.Limits.ChunkSize = 1 << 10
		got, err := f.bringsTo(&chunk.Place{Position: uint64(tc.position), Digest: tc.digest, Sources: tc.sources}, tc.from, log)
		if err != nil || got != tc.want {
			t.Errorf("%s: %t, want %t; %v", tc.name, got, tc.want, err)
		}
	}
}
