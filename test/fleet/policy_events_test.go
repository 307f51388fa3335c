package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/test/fleet/site"
)

// The node's decisions arrive as they are in its file, over its rotation, whatever an operator pauses. The red button holds them,
// and none is lost by it: files that haven't arrived are kept beyond the number that is set.
func (g *guarded) events(security site.Security) {
	g.Helper()
	g.asks("oncall-eve", "pause", site.Inputs{"all": "true", "for": "1h", "reason": "storm"}, done)
	g.decide(60)
	all, want := g.decisions()
	if older := g.older(); older == 0 || len(all) < 60 {
		g.Errorf("%d decisions, %d older files", len(all), older)
	}
	g.told(want)
	if security == site.Tokens {
		return // who may press the button there is another test's
	}
	button := func(args ...string) {
		g.Helper()
		_, err := g.Command(g.ctx, append([]string{"fleet"}, append(args, "--choria", filepath.Join(g.Dir, "clients", "streams", "client.conf"))...)...)
		g.must(err)
	}
	before, err := g.receiver.Received(g.node, audit.LogName)
	g.must(err)
	button("pause", "--reason", "storage is full")
	g.decide(220)
	if older := g.older(); older <= 3 {
		g.Errorf("%d older files: what hasn't arrived is gone", older)
	}
	_, more := g.decisions()
	g.must(g.receiver.Wait(g.ctx, g.node, audit.LogName, before)) // nothing more than before
	button("resume")
	g.told(more)
	for _, action := range []string{"pause", "resume"} {
		all, _ := g.decisions()
		if !slices.ContainsFunc(all, func(d audit.Decision) bool { return d.Route == "fleet" && d.Action == action && d.Allowed }) {
			g.Errorf("no word of the fleet's %s", action)
		}
	}
	g.decide(60)
	if older := g.older(); older != 3 {
		g.Errorf("%d older files when all have arrived, want 3", older)
	}
}

// told waits until all decisions have arrived: those that were read from the node's files, and those made since.
func (g *guarded) told(all []byte) {
	g.Helper()
	g.await(func() error {
		_, now := g.decisions()
		got, err := g.receiver.Received(g.node, audit.LogName)
		last := now[bytes.LastIndexByte(now[:len(now)-1], '\n')+1:]
		if err == nil && (!bytes.HasPrefix(got, all) || !bytes.HasSuffix(got, last)) {
			err = fmt.Errorf("%d bytes of decisions have arrived, of %d and those made since, the last of which is %s", len(got), len(all), last)
		}
		return err
	})
}

// decide has so many changes permitted, which have a line each. They are about no log, so nothing comes of them.
func (g *guarded) decide(n int) {
	g.Helper()
	c := control.NewClient(g.node.Socket())
	c.Caller, c.TTL = "up=oncall-eve", 60
	for i := range n {
		c.RequestID = fmt.Sprintf("decide-%d-%d", time.Now().UnixNano(), i)
		r := control.PauseRequest{Log: "nothing", For: control.Duration(time.Second), Reason: strings.Repeat("x", 500)}
		if _, err := c.Pause(g.ctx, r); !errors.Is(err, control.ErrUnknownLog) {
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
