package broker_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

func lines(plan []broker.Change) string {
	var b strings.Builder
	for _, c := range plan {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

func planOf(t *testing.T, js jetstream.JetStream, w broker.Wanted) []broker.Change {
	t.Helper()
	plan, err := broker.Plan(testContext(t), js, w)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func readLayout(t *testing.T, js jetstream.JetStream) broker.Layout {
	t.Helper()
	shared, err := broker.OpenShared(testContext(t), js)
	if err != nil {
		t.Fatal(err)
	}
	l, err := shared.Layout(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	return l
}

func newJetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	return streamAPI(t, connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})}))
}

func TestPlanAndApply(t *testing.T) {
	js := newJetStream(t)
	begin := time.Now()
	plan := planOf(t, js, broker.Wanted{Partitions: 2, MaxBytes: 1 << 20})
	want := `create stream KV_LOGFORWARD: $KV.LOGFORWARD.>, limits, replicas 1
create stream KV_LOGFORWARD_POSITIONS: $KV.LOGFORWARD_POSITIONS.>, limits, replicas 1
create stream KV_LOGFORWARD_LEASES: $KV.LOGFORWARD_LEASES.>, limits, replicas 1
create stream LOGFORWARD_0: logs.0.>, workqueue, replicas 1, at most 1048576 bytes
create stream LOGFORWARD_1: logs.1.>, workqueue, replicas 1, at most 1048576 bytes
create layout layout: prefix logs, partitions 2, replicas 1
`
	if got := lines(plan); got != want {
		t.Errorf("plan is\n%swant\n%s", got, want)
	}
	text, err := json.Marshal(plan[0])
	if err != nil || string(text) != `{"what":"create stream","name":"KV_LOGFORWARD","to":"$KV.LOGFORWARD.\u003e, limits, replicas 1"}` {
		t.Errorf("as JSON: %s %v", text, err)
	}
	// A plan alone changes nothing.
	if _, err := js.Stream(testContext(t), "LOGFORWARD_0"); err == nil {
		t.Fatal("planning made a stream")
	}
	if err := broker.Apply(testContext(t), js, plan); err != nil {
		t.Fatal(err)
	}
	if again := planOf(t, js, broker.Wanted{Partitions: 2, MaxBytes: 1 << 20}); len(again) != 0 {
		t.Errorf("second plan is not empty:\n%s", lines(again))
	}
	// Nothing said means: as it is.
	if again := planOf(t, js, broker.Wanted{MaxBytes: 1 << 20}); len(again) != 0 {
		t.Errorf("plan without wishes is not empty:\n%s", lines(again))
	}
	for _, name := range []string{"LOGFORWARD_0", "LOGFORWARD_1", "KV_LOGFORWARD", "KV_LOGFORWARD_POSITIONS", "KV_LOGFORWARD_LEASES"} {
		s, err := js.Stream(testContext(t), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		bucket := strings.HasPrefix(name, "KV_")
		if c.Discard != jetstream.DiscardNew || c.Storage != jetstream.FileStorage || c.Replicas != 1 || c.MaxMsgSize != -1 ||
			c.Duplicates != 100*time.Millisecond || c.AllowDirect || c.DenyDelete != bucket || c.AllowRollup != bucket {
			t.Errorf("%s is %+v", name, c)
		}
		if bucket && (c.MaxMsgsPerSubject != 1 || c.Retention != jetstream.LimitsPolicy) ||
			!bucket && (c.MaxMsgsPerSubject != -1 || c.Retention != jetstream.WorkQueuePolicy || c.MaxBytes != 1<<20) {
			t.Errorf("%s is %+v", name, c)
		}
		if first := time.UnixMicro(int64(c.FirstSeq)); first.Before(begin.Add(-time.Second)) || first.After(time.Now()) {
			t.Errorf("%s begins at %d", name, c.FirstSeq)
		}
	}
	l := readLayout(t, js)
	if l.Prefix != "logs" || l.Partitions != 2 || l.Replicas != 1 || len(l.ID) != 22 || time.Since(l.Created) > time.Minute {
		t.Errorf("layout is %+v", l)
	}
}

func TestPlanChanges(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 2})
	first := readLayout(t, js)
	p := newPublisher(t, js.Conn(), broker.PublisherOptions{})
	for _, subject := range []string{"logs.0.a.b", "logs.1.a.b"} {
		if a := publish(t, p, subject, "x"); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	step := func(name string, w broker.Wanted, want string) broker.Layout {
		t.Helper()
		plan := planOf(t, js, w)
		if got := lines(plan); got != want {
			t.Errorf("%s: plan is\n%swant\n%s", name, got, want)
		}
		if err := broker.Apply(testContext(t), js, plan); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again := planOf(t, js, w); len(again) != 0 {
			t.Errorf("%s: second plan is\n%s", name, lines(again))
		}
		// What lies in the streams stays, whatever changes.
		for _, s := range []string{"0", "1"} {
			n, err := broker.SubjectPending(testContext(t), js, "LOGFORWARD_"+s, "logs."+s+".a.b")
			if err != nil || n != 1 {
				t.Errorf("%s: stream %s holds %d, %v", name, s, n, err)
			}
		}
		return readLayout(t, js)
	}
	more := step("more partitions", broker.Wanted{Partitions: 3}, `create stream LOGFORWARD_2: logs.2.>, workqueue, replicas 1
change layout layout: prefix logs, partitions 2, replicas 1 -> prefix logs, partitions 3, replicas 1
`)
	if more.ID == first.ID || more.Partitions != 3 {
		t.Errorf("layout is %+v", more)
	}
	limits := step("a limit", broker.Wanted{MaxBytes: 1000000}, `update stream LOGFORWARD_0 maximum bytes: unlimited -> 1000000
update stream LOGFORWARD_1 maximum bytes: unlimited -> 1000000
update stream LOGFORWARD_2 maximum bytes: unlimited -> 1000000
`)
	if limits != more {
		t.Errorf("a limit changed the layout: %+v", limits)
	}
	fewer := step("fewer partitions", broker.Wanted{Partitions: 1, MaxBytes: 1000000},
		"change layout layout: prefix logs, partitions 3, replicas 1 -> prefix logs, partitions 1, replicas 1\n")
	if fewer.ID == more.ID || fewer.Partitions != 1 {
		t.Errorf("layout is %+v", fewer)
	}
	other := step("another prefix", broker.Wanted{Prefix: "prod.logs", MaxBytes: 1000000},
		`update stream LOGFORWARD_0 subjects: logs.0.> -> logs.0.> prod.logs.0.>
change layout layout: prefix logs, partitions 1, replicas 1 -> prefix prod.logs, partitions 1, replicas 1
`)
	if other.ID == fewer.ID || other.Prefix != "prod.logs" {
		t.Errorf("layout is %+v", other)
	}
	for _, subject := range []string{"logs.0.c.d", "prod.logs.0.c.d"} {
		if a := publish(t, p, subject, "x"); a.Err != nil || a.Stream != "LOGFORWARD_0" {
			t.Errorf("%s: %+v", subject, a)
		}
	}
	back := step("the first prefix again", broker.Wanted{Prefix: "logs", MaxBytes: 1000000},
		"change layout layout: prefix prod.logs, partitions 1, replicas 1 -> prefix logs, partitions 1, replicas 1\n")
	if back.ID == fewer.ID {
		t.Error("an old layout's id came back")
	}
}

// Settings that an operator changed by hand in a way that can lose messages are
// set right; others stay.
func TestPlanRepairs(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	edit := func(name string, f func(*jetstream.StreamConfig)) {
		s, err := js.Stream(testContext(t), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		f(&c)
		if _, err := js.UpdateStream(testContext(t), c); err != nil {
			t.Fatal(err)
		}
	}
	edit("LOGFORWARD_0", func(c *jetstream.StreamConfig) {
		c.Description, c.MaxMsgSize, c.Discard, c.MaxAge = "mine", 5, jetstream.DiscardOld, time.Hour
	})
	edit("KV_LOGFORWARD_POSITIONS", func(c *jetstream.StreamConfig) { c.AllowDirect, c.MaxMsgsPerSubject = true, 3 })
	plan := planOf(t, js, broker.Wanted{})
	want := `update stream KV_LOGFORWARD_POSITIONS maximum messages per subject: 3 -> 1
update stream KV_LOGFORWARD_POSITIONS allow direct: true -> false
update stream LOGFORWARD_0 maximum age: 1h0m0s -> unlimited
update stream LOGFORWARD_0 maximum message size: 5 -> unlimited
update stream LOGFORWARD_0 discard: old -> new
`
	if got := lines(plan); got != want {
		t.Errorf("plan is\n%swant\n%s", got, want)
	}
	if err := broker.Apply(testContext(t), js, plan); err != nil {
		t.Fatal(err)
	}
	if again := planOf(t, js, broker.Wanted{}); len(again) != 0 {
		t.Errorf("second plan is\n%s", lines(again))
	}
	s, err := js.Stream(testContext(t), "LOGFORWARD_0")
	if err != nil || s.CachedInfo().Config.Description != "mine" {
		t.Errorf("the description was changed: %v", err)
	}
}

func TestPlanForeignStreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		config jetstream.StreamConfig
		seal   bool
		says   []string
	}{
		{name: "subject", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Subjects: []string{"orders.>"}, Retention: jetstream.WorkQueuePolicy}, says: []string{"LOGFORWARD_0", "orders.>"}},
		{name: "another partition's subject", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Subjects: []string{"logs.7.>"}, Retention: jetstream.WorkQueuePolicy}, says: []string{"LOGFORWARD_0", "logs.7.>"}},
		{name: "storage", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Subjects: []string{"logs.0.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage}, says: []string{"Memory"}},
		{name: "retention", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Subjects: []string{"logs.0.>"}}, says: []string{"retention is limits, wanted is workqueue"}},
		{name: "acknowledgements", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Subjects: []string{"logs.0.>"}, Retention: jetstream.WorkQueuePolicy, NoAck: true}, says: []string{"acknowledge"}},
		{name: "sources", config: jetstream.StreamConfig{Name: "LOGFORWARD_0", Sources: []*jetstream.StreamSource{{Name: "X"}}}, says: []string{"copies"}},
		{name: "sealed", config: jetstream.StreamConfig{Name: "KV_LOGFORWARD", Subjects: []string{"$KV.LOGFORWARD.>"}, Discard: jetstream.DiscardNew}, seal: true, says: []string{"KV_LOGFORWARD", "sealed"}},
		{name: "another name", config: jetstream.StreamConfig{Name: "EVERYTHING", Subjects: []string{"logs.>"}}, says: []string{"EVERYTHING", "logs.0.>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := newJetStream(t)
			if _, err := js.CreateStream(testContext(t), c.config); err != nil {
				t.Fatal(err)
			}
			if c.seal {
				c.config.Sealed = true
				if _, err := js.UpdateStream(testContext(t), c.config); err != nil {
					t.Fatal(err)
				}
			}
			plan, err := broker.Plan(testContext(t), js, broker.Wanted{Partitions: 1})
			if err == nil {
				t.Fatalf("planned:\n%s", lines(plan))
			}
			wantError(t, err, broker.ErrForeign)
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error doesn't say %q: %v", text, err)
				}
			}
		})
	}
}

func TestPlanRefusesWishes(t *testing.T) {
	js := newJetStream(t)
	for name, w := range map[string]broker.Wanted{
		"negative partitions":   {Partitions: -1},
		"too many partitions":   {Partitions: 5000},
		"too many replicas":     {Replicas: 9},
		"age with a work queue": {MaxAge: time.Hour},
		"tiny age":              {MaxAge: time.Millisecond, Retention: broker.Limits},
		"negative bytes":        {MaxBytes: -5},
		"unknown retention":     {Retention: "interest"},
		"wildcard prefix":       {Prefix: "logs.*"},
		"system prefix":         {Prefix: "$JS"},
		"empty part":            {Prefix: "a..b"},
		"space":                 {Prefix: "a b"},
	} {
		if plan, err := broker.Plan(testContext(t), js, w); err == nil {
			t.Errorf("%s is planned:\n%s", name, lines(plan))
		}
	}
}

// A server can't have more replicas than servers; nothing is half done after.
func TestApplyFailsBeforeTheLayout(t *testing.T) {
	js := newJetStream(t)
	err := broker.Apply(testContext(t), js, planOf(t, js, broker.Wanted{Replicas: 3}))
	if err == nil || !strings.Contains(err.Error(), "replicas") || !strings.Contains(err.Error(), "KV_LOGFORWARD") {
		t.Errorf("error is %v", err)
	}
	if _, err := broker.OpenShared(testContext(t), js); err == nil {
		t.Error("the bucket was made")
	} else {
		wantError(t, err, broker.ErrNoStream)
	}
}

func TestApplyNoticesAnother(t *testing.T) {
	js := newJetStream(t)
	mine, theirs := planOf(t, js, broker.Wanted{Partitions: 1}), planOf(t, js, broker.Wanted{Partitions: 1})
	if err := broker.Apply(testContext(t), js, theirs); err != nil {
		t.Fatal(err)
	}
	id := readLayout(t, js).ID
	wantError(t, broker.Apply(testContext(t), js, mine), broker.ErrWrongRevision)
	mine, theirs = planOf(t, js, broker.Wanted{Partitions: 2}), planOf(t, js, broker.Wanted{Prefix: "other"})
	if err := broker.Apply(testContext(t), js, theirs); err != nil {
		t.Fatal(err)
	}
	wantError(t, broker.Apply(testContext(t), js, mine), broker.ErrWrongRevision)
	if l := readLayout(t, js); l.Prefix != "other" || l.ID == id {
		t.Errorf("layout is %+v", l)
	}
}

// overtaken is a JetStream on which someone does something between a plan and its steps, once.
type overtaken struct {
	jetstream.JetStream
	someone func()
}

func (o *overtaken) UpdateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	o.now()
	return o.JetStream.UpdateStream(ctx, c)
}

func (o *overtaken) CreateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	o.now()
	return o.JetStream.CreateStream(ctx, c)
}

func (o *overtaken) now() {
	if someone := o.someone; someone != nil {
		o.someone = nil
		someone()
	}
}

// A receiver deletes a stream that an older layout had left over, while a newer one wants it again; another setup makes the streams at the same time.
func TestSetupPlansAgainWhenItIsOvertaken(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 3})
	setUp(t, js, broker.Wanted{Partitions: 2})
	if _, err := js.UpdateStream(testContext(t), jetstream.StreamConfig{Name: "LOGFORWARD_2", Subjects: []string{"retired.logs.2.>"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	racing := &overtaken{JetStream: js, someone: func() {
		if err := js.DeleteStream(testContext(t), "LOGFORWARD_2"); err != nil {
			t.Error(err)
		}
	}}
	changes, err := broker.Setup(testContext(t), racing, broker.Wanted{Partitions: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := `create stream LOGFORWARD_2: logs.2.>, workqueue, replicas 1
change layout layout: prefix logs, partitions 2, replicas 1 -> prefix logs, partitions 3, replicas 1
`
	if got := lines(changes); got != want {
		t.Errorf("changes are\n%swant\n%s", got, want)
	}
	if left := planOf(t, js, broker.Wanted{}); len(left) > 0 {
		t.Errorf("left to do:\n%s", lines(left))
	}

	racing.someone = func() { setUp(t, js, broker.Wanted{Partitions: 4, Replicas: 1, MaxBytes: 1 << 20}) }
	if _, err := broker.Setup(testContext(t), racing, broker.Wanted{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	if left := planOf(t, js, broker.Wanted{Partitions: 4}); len(left) > 0 {
		t.Errorf("left to do:\n%s", lines(left))
	}
}

// What nobody else's change explains is told at once.
func TestSetupTellsWhatItCantDo(t *testing.T) {
	js := newJetStream(t)
	changes, err := broker.Setup(testContext(t), js, broker.Wanted{Replicas: 3})
	if err == nil || !strings.Contains(err.Error(), "replicas") || len(changes) == 0 {
		t.Errorf("%d changes, error %v", len(changes), err)
	}
}

// An operator deleted the key; it is made again over the mark of the deletion.
func TestApplyAfterLayoutWasDeleted(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	kv, err := js.KeyValue(testContext(t), broker.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(testContext(t), "layout"); err != nil {
		t.Fatal(err)
	}
	setUp(t, js, broker.Wanted{Partitions: 1})
	readLayout(t, js)
}

func TestPlanWithoutJetStream(t *testing.T) {
	js := streamAPI(t, connect(t, broker.Options{URLs: []string{plainServer(t)}}))
	_, err := broker.Plan(testContext(t), js, broker.Wanted{})
	if err == nil {
		t.Fatal("planned without JetStream")
	}
	wantError(t, err, broker.ErrNoJetStream)
}

func TestLimitsRetention(t *testing.T) {
	js := newJetStream(t)
	w := broker.Wanted{Partitions: 1, Retention: broker.Limits, MaxAge: time.Hour}
	setUp(t, js, w)
	if again := planOf(t, js, w); len(again) != 0 {
		t.Errorf("second plan is\n%s", lines(again))
	}
	w.MaxAge = 2 * time.Hour
	if got := lines(planOf(t, js, w)); got != "update stream LOGFORWARD_0 maximum age: 1h0m0s -> 2h0m0s\n" {
		t.Errorf("plan is\n%s", got)
	}
}
