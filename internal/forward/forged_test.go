package forward

import (
	"encoding/json"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
)

// On Choria every node may publish to the reply subjects of all others, and so where a node hears its receivers. What isn't authenticated with the
// key of the node's own hello makes it forget no byte, go back, begin an epoch or pause; it only has it ask.
func TestForgedControlIsNoReceiversWord(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = time.Hour } // hellos tell nothing
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	eventually(t, "confirmed", func() bool { return n.status("app").Confirmed == 4 })
	c.with(func() { c.silent = true })
	line := []byte("a line that anybody can guess\n")
	n.append("app", line)
	end := uint64(4 + len(line))
	eventually(t, "stored", func() bool { return n.status("app").Stored == end })
	was := n.status("app")
	asked := 0
	c.with(func() { asked = c.hellos })
	digest := chunk.Sum([]byte("one\n")).Update(line) // it fits
	for _, forged := range []chunk.Control{
		{Confirm: []chunk.Confirm{{Log: "app", Epoch: was.Epoch, Position: end, Digest: digest}}},
		{Resend: []chunk.Resend{{Log: "app", Epoch: was.Epoch, From: 4}}},
		{Fork: []chunk.Fork{{Log: "app", Epoch: was.Epoch, Known: was.Epoch}}},
		{Pause: &chunk.Pause{Change: 1 << 50, Since: time.Now(), By: "nobody"}},
	} {
		b, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		for _, mac := range []string{"", "00", chunk.MAC("", b), chunk.MAC(chunk.NewKey(), b)} {
			m := &nats.Msg{Subject: chunk.ControlSubject("logs", identity), Data: b, Header: nats.Header{}}
			if mac != "" {
				m.Header.Set(chunk.MACHeader, mac)
			}
			if err := c.nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := c.press(chunk.Pause{Since: time.Now(), By: "ops"}, 0)
	c.tell(chunk.Control{Pause: &p}) // a receiver's, behind all of them on the same subscription
	c.obeyed("the genuine pause", func(o chunk.Obeyed) bool { return o.Change == 1 && o.Paused })
	now := n.status("app")
	if now.Confirmed != was.Confirmed || now.Epoch != was.Epoch || now.Stored != was.Stored || now.Gaps != 0 {
		t.Errorf("now %+v\nwas %+v", now, was)
	}
	eventually(t, "it asks", func() (ok bool) { c.with(func() { ok = c.hellos > asked }); return ok })
	c.with(func() {
		if c.hellos > asked+2 {
			t.Errorf("it has asked %d times", c.hellos-asked)
		}
	})
	c.with(func() { c.silent = false })
}

// Who hears hellos at one broker must not know the key that counts at another, and the destinations of one broker have one subject for control messages.
func TestKeyIsOneBrokers(t *testing.T) {
	at := func(urls ...string) string { return keyAt("secret", Destination{Broker: broker.Options{URLs: urls}}) }
	if a, b := at("nats://a", "nats://b"), at("nats://b", "nats://a"); a != b {
		t.Errorf("one broker, two keys: %s %s", a, b)
	}
	if a, b := at("nats://a"), at("nats://b"); a == b {
		t.Errorf("two brokers, one key: %s", a)
	}
	h := chunk.Hello{Instance: "i", Key: at("nats://a")}
	if _, err := chunk.ParseHello(marshal(&h)); err != nil || h.Key == "secret" {
		t.Errorf("key %q: %v", h.Key, err)
	}
}
