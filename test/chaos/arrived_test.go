package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The end of a file that its receiver hasn't cut back yet is waited for; one that stays is a violation, and so is a file that nobody's ledger names.
func TestFilesHoldWhatTheLedgersTellOf(t *testing.T) {
	s := &system{topology: topology{receivers: 2, nodes: 1, logs: 1}, dir: t.TempDir()}
	s.streams = []*stream{newStream(0, "app1", "", 1)}
	put := func(receiver, name, text string) string {
		t.Helper()
		path := filepath.Join(s.output(receiver), s.identity(0), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("receiver1", "app1@ledger.jsonl", `{"event":"range","epoch":1,"from":0,"file":"web1.example.net/app1.log"}`+"\n")
	put("receiver2", "app1@ledger.jsonl", `{"event":"range","epoch":1,"from":4,"file":"web1.example.net/app1.log"}`+"\n")
	first := put("receiver1", "app1.log", "one\ntwo\n") // of which "two\n" isn't committed
	put("receiver2", "app1.log", "two\nthree\n")
	looks := 0
	look := func(at int, do func() error) func() error {
		looks = 0
		return func() error {
			if looks++; looks == at {
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
			return s.files()
		}
	}
	wrong := func(err error) {
		t.Helper()
		var v *violation
		if !errors.As(err, &v) || v.check != checkOnce {
			t.Errorf("%v, want a violation of %q", err, checkOnce)
		}
	}
	wrong(cutBack(0, s.files))
	wrong(cutBack(100*time.Millisecond, look(0, nil)))
	if looks < 2 {
		t.Errorf("%d looks", looks)
	}
	if err := cutBack(time.Minute, look(3, func() error { return os.Truncate(first, 4) })); err != nil || looks != 3 {
		t.Errorf("%v after %d looks", err, looks)
	}
	other := put("receiver1", "app1@20260102T030405Z.log", "two\n")
	wrong(cutBack(0, s.files))
	if err := errors.Join(os.Remove(other), cutBack(0, s.files)); err != nil {
		t.Error(err)
	}
	wrong(cutBack(0, func() error { return os.ErrPermission }))
}
