package receive

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// Who has a byte of each block be deleted by retention, by lines of the ledger, can't change the others.
func TestForgerExpiresAByte(t *testing.T) {
	t.Parallel()
	x := sealedLogs(t, 1000)(t)
	for i, path := range x.closed() {
		name, err := filepath.Rel(x.output, path)
		x.must(err)
		b, err := os.ReadFile(path)
		x.must(err)
		for j := range b {
			b[j] = 'X'
		}
		x.must(os.WriteFile(path, b[:999], 0o600))
		x.edit(func(entries []Entry) (all []Entry) {
			for _, e := range entries {
				all = append(all, e)
				if e.Event == EventClose && e.Name == name {
					last := &all[len(all)-1]
					last.Size--
					last.To--
					at := uint64(1000*i + 999)
					fake := Entry{Time: e.Time, Event: EventRange, Epoch: 1, From: at, File: name + ".fake"}
					all = append(all, fake,
						Entry{Time: e.Time, Event: EventClose, Epoch: 1, To: at + 1, File: fake.File, Name: fake.File, Size: 1},
						Entry{Time: e.Time, Event: EventExpire, Epoch: 1, File: fake.File, Size: 1})
				}
			}
			for k := range all {
				all[k].Digest = nil
			}
			return all
		})
	}
	v := x.ask(SealOptions{Keys: x.node.sealer.keys(), All: true})
	said := slices.DeleteFunc(slices.Clone(v.Parts), func(p Part) bool { return p.Verdict == Unproved })
	if v.Verdict != Unsealed || len(said) != 3 || said[0].From != 0 || said[1].From != 1000 || said[2].From != 2000 || said[2].To != 2999 {
		t.Errorf("%s %+v %+v", v.Verdict, said, v.Seals)
	}
}

// A pipe in the place of a ledger is an error, and nobody waits for who would write to it.
func TestPipeForALedger(t *testing.T) {
	t.Parallel()
	output := t.TempDir()
	path := filepath.Join(output, "web1", "syslog@ledger.jsonl")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	for what, ask := range map[string]func() error{
		"verify": func() error { return second(Verify(context.Background(), []string{output}, "web1", "syslog", nil)) },
		"cat":    func() error { return second(Cat(io.Discard, []string{output}, "web1", "syslog")) },
		"ledger": func() error { return second(Ledger(path)) },
	} {
		done := make(chan error, 1)
		go func() { done <- ask() }()
		select {
		case err := <-done:
			if !errors.Is(err, errNotOurs) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s waits", what)
		}
	}
}
