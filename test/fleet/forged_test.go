package fleet

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/control"
	"logforward/test/fleet/site"
)

// Choria lets every server publish to everybody's reply subjects, and so to where a node hears its
// receivers. What one node tells another there must neither lose nor double a byte, nor stop it: it isn't
// authenticated with the key of the other's hello, which only receivers hear.
func TestANodeCannotSteerAnother(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 2)
	hostile, victim := f.nodes[0], f.nodes[1]
	f.each(func(n *site.Node) error { f.define(n, "app"); return nil })
	w := f.write("app")
	f.moved(victim, "app")
	status := f.status(victim)
	nc, _ := f.connect(hostile)
	sum := md5.Sum([]byte(victim.Identity))
	subject := "choria.reply." + hex.EncodeToString(sum[:]) + ".logforward"
	app := chunk.Token("app")
	for _, forged := range []chunk.Control{
		{Confirm: []chunk.Confirm{{Log: app, Epoch: status.Epoch, Position: status.Confirmed + 1<<20, Digest: 1}}},
		{Confirm: []chunk.Confirm{{Log: app, Epoch: status.Epoch, Position: 1 << 60}}},
		{Resend: []chunk.Resend{{Log: app, Epoch: status.Epoch, From: 0, Round: 0}, {Log: app, Epoch: status.Epoch, From: 1 << 60, Round: 0}}},
		{Fork: []chunk.Fork{{Log: app, Epoch: status.Epoch - 1, Known: 1 << 60}}},
		{Layout: &chunk.Layout{ID: "forged", Prefix: "stolen", Partitions: 1}},
		{Pause: &chunk.Pause{Change: 1 << 50, Since: time.Now(), By: "nobody"}},
		{Hello: true},
	} {
		b, err := json.Marshal(forged)
		f.must(err)
		f.must(nc.Publish(subject, b))
		f.must(nc.FlushWithContext(f.ctx))
		f.moved(victim, "app")
		s, err := victim.Status(f.ctx)
		f.must(err)
		if s.Pause != nil {
			t.Errorf("it obeys %+v", forged)
		}
	}
	w.finish("app")
	if now := f.status(victim); now.Epoch != status.Epoch || now.Gaps != 0 {
		t.Errorf("status %+v, was %+v", now, status)
	}
}

// status is how the only log of a node is.
func (f *fleet) status(n *site.Node) control.LogStatus {
	f.Helper()
	s, err := n.Status(f.ctx)
	f.must(err)
	if len(s.Logs) != 1 {
		f.Fatalf("%s has the logs %+v, want one", n.Name, s.Logs)
	}
	return s.Logs[0]
}
