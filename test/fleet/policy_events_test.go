package fleet

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/test/fleet/site"
)

// The node's decisions arrive as they are in its file, over its rotation, whatever an operator pauses. The red button holds them,
// and none is lost by it: files that haven't arrived are kept beyond the number that is set.
func (g *guarded) events(security site.Security) {
	g.Helper()
	g.asks("oncall-eve", "pause", site.Inputs{"all": "true", "for": "1h", "reason": "storm"}, done)
	g.refuse(60)
	all, want := g.decisions()
	if older := g.older(); older == 0 || len(all) < 60 {
		g.Errorf("%d decisions, %d older files", len(all), older)
	}
	g.must(g.receiver.Wait(g.ctx, g.node, audit.LogName, want))
	if security == site.Tokens {
		return // who may press the button there is another test's
	}
	button := func(args ...string) {
		g.Helper()
		_, err := g.Command(g.ctx, append([]string{"fleet"}, append(args, "--choria", filepath.Join(g.Dir, "clients", "streams", "client.conf"))...)...)
		g.must(err)
	}
	button("pause", "--reason", "storage is full")
	g.refuse(220)
	if older := g.older(); older <= 3 {
		g.Errorf("%d older files: what hasn't arrived is gone", older)
	}
	_, more := g.decisions()
	g.must(g.receiver.Wait(g.ctx, g.node, audit.LogName, want)) // nothing more than before
	button("resume")
	g.must(g.receiver.Wait(g.ctx, g.node, audit.LogName, more))
	g.refuse(60)
	if older := g.older(); older != 3 {
		g.Errorf("%d older files when all have arrived, want 3", older)
	}
}

// refuse has so many requests refused, of a caller who would hide what he does.
func (g *guarded) refuse(n int) {
	g.Helper()
	c := control.NewClient(g.node.Socket())
	c.Caller, c.TTL = "up=mallory", 60
	for i := range n {
		c.RequestID = fmt.Sprintf("mallory-%d", i)
		if _, err := c.Pause(g.ctx, control.PauseRequest{Log: audit.LogName, Reason: strings.Repeat("x", 500)}); !errors.Is(err, control.ErrRefused) {
			g.Fatal(err)
		}
	}
}

// older is how many older files the node's audit log has.
func (g *guarded) older() int {
	g.Helper()
	files, err := filepath.Glob(g.node.Decisions() + ".*")
	g.must(err)
	return len(files)
}
