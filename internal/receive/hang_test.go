package receive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"logforward/internal/broker"
)

// hanging is a site whose disk is taken for hanging soon, while its silence alone would be noticed by nobody.
func hanging(t *testing.T) *site {
	return newSite(t, func(c *Config) { c.LeaseTimeout, c.DiskTimeout = time.Hour, 400*time.Millisecond })
}

// hold has the site's receiver hang at an operation, as a system call does that doesn't come back. It gives a function that lets it go on.
func (s *site) hold(op string, done bool) (x *stopper, release func()) {
	x = &stopper{op: op, done: done, hit: make(chan struct{}), goOn: make(chan struct{})}
	s.config.fault = x.check
	released := false
	release = func() {
		if !released {
			released = true
			close(x.goOn)
		}
	}
	s.t.Cleanup(release)
	return x, release
}

// saysHung waits until health, state and heartbeat tell of the disk, or of its return.
func (s *site) saysHung(leases *broker.Records, is bool) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the disk to hang: %t", is), func() (bool, string) {
		said := strings.Join(append(s.r.Health(), s.r.Status(s.t.Context()).Problems...), "\n")
		list, err := leases.List(asking(s.t))
		s.must(err)
		seen := newTable("", 2)
		for _, rec := range list {
			seen.observe(rec)
		}
		b := seen.beats[s.config.Name]
		return b != nil && b.Hung == is && strings.Count(said, "the disk hangs: ") == map[bool]int{true: 2}[is] &&
			gathered(s.t, s.r.metrics.hung).GetGauge().GetValue() == map[bool]float64{true: 1}[is], fmt.Sprintf("%s; %+v", said, b)
	})
}

// The heart of a receiver whose disk hangs stands still, wherever that is in its work, and another one takes over. When the disk is back,
// nothing is committed that another has committed meanwhile, and the receiver works again.
func TestHungDiskIsTakenOverFrom(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		op     string
		done   bool
		shared bool
	}{{opAppend, false, false}, {opSync, false, false}, {opSync, true, true}, {opPrepare, false, false}, {opPrepare, true, false}, {opCommit, false, false}} {
		t.Run(fmt.Sprintf("%s %t, shared %t", at.op, at.done, at.shared), func(t *testing.T) {
			t.Parallel()
			s := hanging(t)
			n := s.node("web1", "syslog")
			s.steady(n, "committed\n")
			x, release := s.hold(at.op, at.done)
			s.startReceiver()
			divided(t, 1, s)
			r2 := s.beside("r2", at.shared)
			r2.config.fault = nil
			leases, err := broker.OpenRecords(asking(t), s.r.js, s.pub, broker.Leases)
			s.must(err)
			n.send(n.make("on the disk that hangs\n"))
			<-x.hit
			never := s.recordGoesOn(key("web1", "syslog"))
			r2.startReceiver()
			eventually(t, "take over", func() (bool, string) { return len(r2.works()) == 1, "" })
			s.saysHung(leases, true)
			_, before, err := leases.Get(asking(t), beatKey("r1"))
			s.must(err)
			r2.beats(3)
			if _, now, err := leases.Get(asking(t), beatKey("r1")); err != nil || now != before {
				t.Errorf("its heart beats: revision %d, then %d (%v)", before, now, err)
			}
			n.send(n.make("after the takeover\n"))
			n.waitConfirmed()
			release()
			s.saysHung(leases, false)
			s.settles("web1", "syslog")
			n.send(n.make("and on\n"))
			n.waitConfirmed()
			n.same()
			s.must(r2.stopReceiver())
			n.send(n.make("the first one again\n"))
			n.waitConfirmed()
			n.same()
			never()
		})
	}
}

// A commit that hung in its sync until its term was over isn't carried on, even where nobody has written the record meanwhile.
func TestHungCommitOfAnEndedTermEnds(t *testing.T) {
	t.Parallel()
	s := hanging(t)
	r2 := s.beside("r2", false)
	n := s.node("web1", "syslog")
	s.knownToBoth(r2, n)
	x, release := s.hold(opSync, false)
	s.startReceiver()
	lost := n.make("on the disk that hangs\n")
	n.send(lost)
	<-x.hit
	s.purge("")
	r2.startReceiver()
	eventually(t, "take over", func() (bool, string) { return len(r2.works()) == 1 && len(s.works()) == 0, "" })
	before := n.record()
	release()
	s.settles("web1", "syslog")
	if now := n.record(); !same(&now.Place, &before.Place) || now.Writer != before.Writer || now.Commit != before.Commit {
		t.Errorf("the record is %+v, and was %+v", now, before)
	}
	n.send(lost)
	n.waitConfirmed()
	n.same()
}

// Where nobody else is, the commit that hung is carried through when the disk is back, and nothing begins anew.
func TestHungDiskOfTheOnlyReceiver(t *testing.T) {
	t.Parallel()
	s := hanging(t)
	x, release := s.hold(opSync, false)
	s.startReceiver()
	leases, err := broker.OpenRecords(asking(t), s.r.js, s.pub, broker.Leases)
	s.must(err)
	n := s.node("web1", "syslog")
	n.send(n.make("on the disk that hangs\n"))
	<-x.hit
	s.saysHung(leases, true)
	if l := n.place(t, n.here()); l.Position != 0 {
		t.Errorf("told %d", l.Position)
	}
	value, _, err := leases.Get(asking(t), leaseKey(0))
	s.must(err)
	release()
	s.saysHung(leases, false)
	n.waitConfirmed()
	n.same()
	if now, _, err := leases.Get(asking(t), leaseKey(0)); err != nil || string(now) != string(value) {
		t.Errorf("another term: %s, before %s (%v)", now, value, err)
	}
}

// A disk that is slow, or that is waited for in turn, isn't one that hangs, and what waits for the broker is no disk.
func TestSlowDiskDoesNotHang(t *testing.T) {
	t.Parallel()
	var d disk
	old := d.flights.begin(opSync)
	for range 5 {
		f := d.flights.begin(opAppend)
		if d.flights.begin(opRecord) != nil || d.flights.begin(opCompress) != nil {
			t.Fatal("watched")
		}
		d.flights.look()
		d.flights.end(f)
	}
	if oldest := d.flights.look(); oldest.op != opSync || oldest.looks != 6 {
		t.Errorf("%+v", oldest)
	}
	d.flights.end(old)
	if oldest := d.flights.look(); oldest.looks != 0 || len(d.flights.all) > 0 {
		t.Errorf("%+v", oldest)
	}
}
