package forward

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

func subject(prefix string, partitions int, log string) string {
	return subjectOf(&chunk.Layout{Prefix: prefix, Partitions: partitions}, identity, log)
}

// The new partition is written only when the old one holds nothing of the log.
func TestForwardTakesANewLayoutWhenAllIsConfirmed(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 4 << 10 }
	r := seeded(t)
	want := lines(r, 500)
	n.append("app", want)
	c.rest(true)
	n.start(n.log("app"))
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	old := subject("logs", 1, "app")
	// Another number of partitions, of which this identity's isn't 0.
	partitions := 2
	for chunk.Partition(identity, partitions) == 0 {
		partitions++
	}
	c.with(func() {
		c.layout = chunk.Layout{ID: "layout-2", Prefix: "logs", Partitions: partitions}
		c.setup()
		for p := 1; p < partitions; p++ {
			c.work(p)
		}
	})
	eventually(t, "the node knows the new layout", func() bool {
		known := false
		done := make(chan struct{})
		f := n.engine.runs["app"]
		f.post(func() { known = f.layout != nil; close(done) })
		<-done
		return known
	})
	more := lines(r, 500)
	n.append("app", more)
	for range 50 {
		n.status("app") // it has its turns
	}
	if s := n.status("app"); s.Stored != uint64(len(want)) {
		t.Errorf("stored %d: new bytes were sent by the old layout, or the new", s.Stored)
	}
	n.crash() // in the middle of the change
	n.start()
	c.rest(false)
	n.delivered("app", append(bytes.Clone(want), more...))
	// How much of that was sent before the crash nobody knows: all of it goes by the old layout.
	if g := c.look("app"); len(g.subj) != 1 || g.subj[old] == 0 {
		t.Errorf("subjects %v before the change", g.subj)
	}
	last := lines(r, 100)
	n.append("app", last)
	n.delivered("app", slices.Concat(want, more, last))
	g := c.look("app")
	if g.subj[old] == 0 || g.subj[subject("logs", partitions, "app")] == 0 || len(g.subj) != 2 {
		t.Errorf("subjects %v", g.subj)
	}
	if len(g.epochs) != 1 || g.forks != 0 {
		t.Errorf("epochs %v, forks %d", g.epochs, g.forks)
	}
}

func TestForwardCommitStoredNeedsNoReceiver(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		d := cfg.Destinations["central"]
		d.Commit = Stored
		cfg.Destinations["central"] = d
	}
	c.mute(true)
	want := lines(seeded(t), 200)
	n.append("app", want)
	n.start(n.log("app"))
	eventually(t, "all counts as delivered", func() bool {
		s := n.status("app")
		return s.Confirmed == uint64(len(want)) && s.Unconfirmed == 0
	})
	if s := n.status("app"); s.Promise != "weaker promise: broker acknowledgement only" {
		t.Errorf("promise %q", s.Promise)
	}
	n.stop()
	n.append("app", []byte("more\n"))
	n.start()
	eventually(t, "the rest too", func() bool { return n.status("app").Confirmed == uint64(len(want))+5 })
}

func TestForwardCompresses(t *testing.T) {
	t.Parallel()
	for _, how := range []string{CompressionNone, CompressionS2, CompressionZstd} {
		t.Run(how, func(t *testing.T) {
			c := newCentre(t)
			n := newNode(t, c)
			n.change = func(cfg *Config) {
				d := cfg.Destinations["central"]
				d.Compression = how
				cfg.Destinations["central"] = d
			}
			want := lines(seeded(t), 20000)
			n.append("app", want)
			n.start(n.log("app"))
			n.delivered("app", want)
		})
	}
}

func TestForwardChangedDestinationLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	a, b := newCentre(t), newCentre(t)
	n := newNode(t, a)
	n.change = func(cfg *Config) {
		cfg.Destinations["central"] = Destination{Broker: broker.Options{URLs: []string{a.listen}}}
		cfg.Destinations["other"] = Destination{Broker: broker.Options{URLs: []string{b.listen}}}
	}
	r := seeded(t)
	var toA, toB []byte
	here, there := n.log("app"), n.log("app")
	there.Destination = "other"
	n.start(here)
	for round := range 3 {
		first := lines(r, 200)
		n.append("app", first)
		toA = append(toA, first...)
		n.delivered("app", toA)

		n.engine.Set([]Log{there})
		second := lines(r, 200)
		eventually(t, "it goes to the other", func() bool { return n.status("app").Destination == "other" })
		n.append("app", second)
		toB = append(toB, second...)
		n.c = b
		n.delivered("app", toB)
		if round == 1 {
			n.crash()
			n.start(there)
			n.delivered("app", toB)
		}
		n.engine.Set([]Log{here})
		eventually(t, "it goes back", func() bool { return n.status("app").Destination == "central" })
		n.c = a
	}
	for name, c := range map[string]*centre{"central": a, "other": b} {
		g := c.look("app")
		for i := 1; i < len(g.epochs); i++ {
			if g.epochs[i] <= g.epochs[i-1] {
				t.Errorf("%s: epochs %v", name, g.epochs)
			}
		}
		if len(g.gaps) != 0 {
			t.Errorf("%s: gaps %v", name, g.gaps)
		}
	}
}

func TestForwardChangedPathKeepsTheNumbering(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	one := []byte("in the first file\n")
	n.append("app", one)
	n.start(n.log("app"))
	n.delivered("app", one)
	was := n.status("app").Epoch
	two := []byte("in the second file\n")
	n.append("second", two)
	moved := n.log("app")
	moved.Path = n.path("second")
	n.engine.Set([]Log{moved})
	n.delivered("app", append(bytes.Clone(one), two...))
	if s := n.status("app"); s.Epoch != was || s.Path != n.path("second") {
		t.Errorf("%+v", s)
	}
}

func TestForwardSetLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("a", []byte("a\n"))
	n.append("b", []byte("b\n"))
	n.start(n.log("a"), n.log("b"))
	n.delivered("a", []byte("a\n"))
	n.delivered("b", []byte("b\n"))
	f := n.engine.runs["a"]
	changed := n.log("a")
	changed.Rate = 1 << 20
	n.engine.Set([]Log{changed})
	eventually(t, "b has ended and a has its rate", func() bool {
		return n.status("b").Log == "" && n.status("a").Limit == 1<<20
	})
	if n.engine.runs["a"] != f {
		t.Error("a was begun again")
	}
	n.append("b", []byte("while it was stopped\n"))
	n.engine.Set([]Log{changed, n.log("b")})
	n.delivered("b", []byte("b\nwhile it was stopped\n"))
}

func TestForwardErrorsAreTheLogsOwn(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	good := n.log("good")
	n.append("good", []byte("fine\n"))
	outside := Log{Name: "outside", Path: t.TempDir() + "/x.log", Destination: "central"}
	nowhere := Log{Name: "nowhere", Path: n.path("x"), Destination: "mars"}
	missing := n.log("missing")
	relative := Log{Name: "relative", Path: "x.log", Destination: "central"}
	n.start(good, outside, nowhere, missing, relative)
	n.delivered("good", []byte("fine\n"))
	for name, want := range map[string]string{
		"nowhere":  `destination "mars" is not configured on this node; known: central`,
		"relative": `path "x.log" is not absolute and clean`,
		"missing":  "no such file",
	} {
		eventually(t, fmt.Sprintf("%s says %q", name, want), func() bool {
			s := n.status(name)
			return s.State == Failed && bytes.Contains([]byte(s.LastError), []byte(want))
		})
	}
	n.append("missing", []byte("there at last\n"))
	n.delivered("missing", []byte("there at last\n"))
}

func TestForwardEndsInOrder(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	n.stop()
	st, err := OpenState(n.state, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	rec, err := st.checkpoint("central", "app")
	if err != nil || rec == nil || rec.Confirmed != uint64(len(want)) || rec.Digest != chunk.Sum(want) {
		t.Errorf("checkpoint %+v, %v", rec, err)
	}
	var e Engine
	if err := New(Config{}).Open(context.Background()); err == nil {
		t.Error("an engine without identity opened")
	}
	_ = e.Close()
}
