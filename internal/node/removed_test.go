package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The engine knows whose file may go without anything being wrong, and works such a log on for a while: it may be rotation without "create".
func TestGlobsRemovedFilesAreKnownToTheEngine(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.define("web.yaml", web)
	b.define("nginx.yaml", nginx)
	b.open()
	ofGlob := func() string {
		var all []string
		for _, l := range b.wheel.logs {
			all = append(all, fmt.Sprint(l.Name, " ", l.OfGlob))
		}
		return fmt.Sprint(all)
	}
	const both = "[nginx false web.a.log true]"
	if got := ofGlob(); got != both {
		t.Errorf("the engine was told %s; want %s", got, both)
	}
	if err := os.RemoveAll(filepath.Join(b.logs, "web")); err != nil {
		t.Fatal(err)
	}
	b.look()
	b.now = b.now.Add(keepGone - time.Second)
	b.look()
	if got := ofGlob(); got != both {
		t.Errorf("before its time is over the engine was told %s; want %s", got, both)
	}
	b.now = b.now.Add(time.Second)
	b.look()
	if got := ofGlob(); got != "[nginx false]" {
		t.Errorf("in the end the engine was told %s", got)
	}
	if r := b.row("web"); r.State != "waiting" || r.Error != "" {
		t.Errorf("%+v", r)
	}
}
