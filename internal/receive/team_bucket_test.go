package receive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Whatever lies in the leases, a receiver works its partitions, and who looks gets an answer.
func TestRubbishInTheLeases(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	leases, err := broker.OpenRecords(asking(t), js, s.pub, broker.Leases)
	s.must(err)
	for key, value := range map[string]string{
		"receiver.x": "\x00\xff", "receiver.y": `{"name":"r1","layout":7}`, "receiver.=41.b": "{}", "receiver": "", "receiver.silent": `{"name":"silent","timeout":4611686018427387904}`,
		"partition.0": `{"owner":"r1","term":"x"`, "partition.-1": `{"owner":"r1"}`, "partition.99999999999999999999": `{"owner":"r1"}`, "partition.12": `{"owner":"nobody","term":18446744073709551615,"layout":"other"}`,
		"drain.r1": `{"since":"yesterday"}`, "drain.=": `{"since":"2026-01-01T00:00:00Z"}`, "else.r1": "x",
	} {
		done := make(chan error, 1)
		leases.Update(key, []byte(value), 0, func(_ uint64, err error) { done <- err })
		s.must(<-done)
	}
	s.startReceiver()
	divided(t, 1, s)
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	o, err := Look(asking(t), js, leases)
	s.must(err)
	if r := o.Receiver("r1"); r == nil || !r.Alive || len(r.Partitions) != 1 {
		t.Errorf("%+v", o.Receivers)
	}
}

// A wiped bucket isn't complete before every receiver that was ever seen has given what it knows: one that is down may have
// the only copy. Nodes without state wait so long, the others are served.
func TestWipedBucketWaitsForAllReceivers(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		t.Run(fmt.Sprintf("forget %t", forget), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.setup(2)
			r2 := s.beside("r2", false)
			r2.startReceiver()
			s.startReceiver()
			divided(t, 2, s, r2)
			n, only := s.node("web1", "syslog"), s.node("web2", "syslog")
			n.sendTo(2, n.make("of one of the two\n"))
			n.waitConfirmed()
			s.must(r2.stopReceiver())
			divided(t, 2, s)
			n.sendTo(2, n.make("of r1\n"))
			n.waitConfirmed()
			s.must(s.stopReceiver())
			r2.startReceiver()
			only.sendTo(2, only.make("of r2\n"))
			only.waitConfirmed()
			s.must(r2.stopReceiver())
			s.wipe()
			r2.server, r2.nc, r2.pub = s.server, s.nc, s.pub
			n.listen()
			only.listen()
			s.startReceiver()
			divided(t, 2, s)
			// It has a part of what r2 wrote, and doesn't know what else there is.
			eventually(t, "say whom it waits for", func() (bool, string) {
				said := strings.Join(s.r.Health(), "\n")
				return strings.Contains(said, "only copy") && strings.Contains(said, "r2"), said
			})
			for range 5 {
				for _, h := range []chunk.HelloLog{{}, {Epoch: 1}} {
					a, err := only.hello(t, h)
					s.must(err)
					if l := a.Logs["syslog"]; a.Ready && (l.Error == "" || l.Known) {
						t.Fatalf("a node whose log only r2 knows is told %+v", a)
					}
				}
			}
			// Who has state of a log that is known goes on.
			if l := n.place(t, n.here()); !l.Known || l.Position != n.position {
				t.Errorf("answer %+v", l)
			}
			n.sendTo(2, n.make("more of r1\n"))
			n.waitConfirmed()
			if forget {
				records, err := broker.OpenRecords(asking(t), s.r.js, s.pub, broker.Leases)
				s.must(err)
				s.must(Forget(asking(t), records, "r2"))
				eventually(t, "give up waiting", func() (bool, string) {
					a, err := only.hello(t, chunk.HelloLog{})
					return err == nil && a.Ready && !a.Logs["syslog"].Known && a.Logs["syslog"].Error == "", fmt.Sprintf("%+v %v", a, err)
				})
				return
			}
			r2.startReceiver()
			eventually(t, "tell where it stands", func() (bool, string) {
				a, err := only.hello(t, chunk.HelloLog{})
				if err != nil {
					return false, err.Error()
				}
				l := a.Logs["syslog"]
				if a.Ready && !l.Known && l.Error == "" {
					t.Fatal("the log was called unknown")
				}
				return a.Ready && l.Known && l.Position == only.position, fmt.Sprintf("%+v", a)
			})
			n.same()
			only.same()
		})
	}
}

// Positions that are lost while every connection stands are put together again by all receivers, too: else no new log would
// ever begin, for nobody would mark the bucket as complete.
func TestPositionsLostUnderLiveConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "of r1\n")
	first := n.position
	r2 := s.beside("r2", false)
	r2.startReceiver()
	divided(t, 1, r2)
	newest := n.make("the newest is of r2\n")
	n.send(newest)
	n.waitConfirmed()
	s.startReceiver()
	leases, err := broker.OpenRecords(asking(t), s.r.js, s.pub, broker.Leases)
	s.must(err)
	s.must(SetDrain(asking(t), leases, "r2", "test", true))
	all := n.position
	eventually(t, "hand over", func() (bool, string) {
		return len(s.works()) == 1 && n.place(t, chunk.HelloLog{}).Position == all, ""
	})
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	s.must(js.DeleteStream(asking(t), "KV_"+broker.Positions))
	s.setup(1)
	last := n.make("behind the loss\n")
	n.send(last)
	eventually(t, "put the positions together", func() (bool, string) {
		a, err := n.hello(t, chunk.HelloLog{})
		if err != nil {
			return false, err.Error()
		}
		l := a.Logs["syslog"]
		switch {
		case !a.Ready || l.Error != "":
		case !l.Known:
			t.Fatal("the log was called unknown")
		case l.Position == first: // a node without state believes it
			n.send(newest, last)
		case l.Position == all:
			n.send(last)
		}
		return a.Ready && l.Position == n.position, fmt.Sprintf("%+v", a)
	})
	n.same()
	fresh := s.node("web2", "new")
	eventually(t, "let a new log begin", func() (bool, string) {
		a, err := fresh.hello(t, chunk.HelloLog{})
		return err == nil && a.Ready && !a.Logs["new"].Known && a.Logs["new"].Error == "", fmt.Sprintf("%+v %v", a, err)
	})
	var size int64
	for _, output := range s.outputs() {
		st, err := os.Stat(filepath.Join(output, "web1", "syslog.log"))
		s.must(err)
		size += st.Size()
	}
	if size != int64(len(n.written)) {
		t.Errorf("%d bytes lie in the files, and the log has %d", size, len(n.written))
	}
}

// An owner that doesn't know that it isn't one any more calls nothing unknown: the bucket is asked.
func TestUnknownIsSaidOnlyByTheBucket(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.place(t, chunk.HelloLog{})
	// Another receiver has committed the log meanwhile.
	rec := record{Place: chunk.Place{Epoch: 7, Position: 5}, Writer: "r2/x"}
	b, err := json.Marshal(rec)
	s.must(err)
	done := make(chan error, 1)
	s.records().Update(key("web1", "syslog"), b, 0, func(_ uint64, err error) { done <- err })
	s.must(<-done)
	a, err := n.hello(t, chunk.HelloLog{})
	s.must(err)
	if l := a.Logs["syslog"]; l.Known || l.Error == "" {
		t.Errorf("told %+v", l)
	}
	_, rev, err := s.records().Get(asking(t), completeKey)
	if err != nil || rev == 0 {
		t.Error(errors.Join(err, errors.New("the bucket isn't complete")))
	}
}

// A node's first hello may name thousands of logs: bucket and stream are asked for all of them at once, and for the few that are known one by one.
func TestManyUnknownLogsAreLookedUpTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	s.node("web1", "syslog").place(t, chunk.HelloLog{})
	b, err := json.Marshal(record{Place: chunk.Place{Epoch: 7, Position: 5}, Writer: "r2/x"})
	s.must(err)
	done := make(chan error, 1)
	s.records().Update(key("web1", "log7"), b, 0, func(_ uint64, err error) { done <- err })
	s.must(<-done)
	var asked atomic.Int64
	for _, call := range []string{"STREAM.INFO.KV_" + broker.Positions, "STREAM.MSG.GET.KV_" + broker.Positions, "STREAM.INFO.LOGFORWARD_0"} {
		sub, err := s.nc.Subscribe("$JS.API."+call, func(*nats.Msg) { asked.Add(1) })
		s.must(err)
		defer sub.Unsubscribe()
	}
	s.must(s.nc.Flush())
	const logs = 100
	h := chunk.Hello{Instance: "x", Logs: map[string]chunk.HelloLog{}}
	for i := range logs {
		h.Logs[fmt.Sprintf("log%d", i)] = chunk.HelloLog{}
	}
	hellos := int64(0)
	eventually(t, "tell of all logs but one", func() (bool, string) { // a busy machine doesn't come to all of them in the time of one answer: a node asks again for the rest
		hellos++
		b, err := json.Marshal(h)
		s.must(err)
		m, err := s.nc.Request(chunk.SyncSubject("logs", "web1"), b, 2*time.Second)
		if err != nil {
			return false, err.Error()
		}
		a, err := chunk.ParseAnswer(m.Data)
		s.must(err)
		last := ""
		for token := range h.Logs {
			l, told := a.Logs[token]
			found := token == "log7" && hellos > 1 && l.Known && l.Place.Epoch == 7 && l.Place.Position == 5 // what the hello before found in the bucket
			if !found && (!told || l.Known || (l.Error != "") != (token == "log7")) {
				last = fmt.Sprintf("%s: told %+v", token, l)
				continue
			}
			delete(h.Logs, token)
		}
		return len(h.Logs) == 0, last
	})
	s.must(s.nc.Flush())
	if n := asked.Load(); n < 4 || n > 10*hellos {
		t.Errorf("bucket and stream were asked %d times for %d logs, in %d hellos", n, logs, hellos)
	}
}

// Where the bucket has lost its mark of completeness, it has lost more: no log is called unknown by it, whatever this receiver believed before.
func TestBucketThatIsNotCompleteCallsNothingUnknown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	if l := n.place(t, chunk.HelloLog{}); l.Error != "" {
		t.Fatalf("told %+v", l)
	}
	js, err := jetstream.New(s.nc)
	s.must(err)
	bucket, err := js.Stream(asking(t), "KV_"+broker.Positions)
	s.must(err)
	s.must(bucket.Purge(asking(t), jetstream.WithPurgeSubject("$KV."+broker.Positions+"."+completeKey)))
	a, err := n.hello(t, chunk.HelloLog{})
	s.must(err)
	if l := a.Logs["syslog"]; l.Known || l.Error == "" {
		t.Errorf("told %+v", l)
	}
}
