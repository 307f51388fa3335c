package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"logforward/internal/chunk"
)

// What is made where nothing is said and nothing is there.
const (
	DefaultPrefix     = "logs"
	DefaultPartitions = 4
	DefaultReplicas   = 1
)

// maxPartitions bounds a slip of the finger: each is a stream with its own files
// and, with replicas, a Raft group.
const maxPartitions = 1024

// Wanted is what setup shall bring about.
type Wanted struct {
	// Prefix, Partitions and Replicas; the zero value leaves each as it is, and
	// takes its default where there is no layout yet.
	Prefix     string
	Partitions int
	Replicas   int
	// Retention; "" means WorkQueue.
	Retention Retention
	// MaxBytes of each partition's stream; 0 means unlimited.
	MaxBytes int64
	// MaxAge of messages with Limits; 0 means unlimited.
	MaxAge time.Duration
}

// Change is one step of a plan.
type Change struct {
	// What is "create stream", "update stream", "create layout" or "change layout".
	What string `json:"what"`
	// Name of the stream or the key.
	Name string `json:"name"`
	// Field that changes; empty for what is made as a whole.
	Field string `json:"field,omitempty"`
	From  string `json:"from,omitempty"` // value now; absent: it is made
	To    string `json:"to"`             // value that is wanted, or what is made

	step *step // carried by the first change of each thing, for Apply
}

// step is what Apply does for one thing.
type step struct {
	stream   *jetstream.StreamConfig
	create   bool
	layout   *Layout
	revision uint64 // of the layout that the plan saw
}

// String renders the change for people.
func (c Change) String() string {
	field := ""
	if c.Field != "" {
		field = " " + c.Field
	}
	if c.From == "" {
		return fmt.Sprintf("%s %s%s: %s", c.What, c.Name, field, c.To)
	}
	return fmt.Sprintf("%s %s%s: %s -> %s", c.What, c.Name, field, c.From, c.To)
}

// Plan compares what is there with what is wanted and changes nothing. Nothing
// to do is an empty plan. Streams that a smaller number of partitions leaves over
// stay: they are worked until empty, and nodes that haven't learnt of the new
// layout still publish to them.
//
// ErrForeign says that a stream of one of our names is something else.
func Plan(ctx context.Context, js jetstream.JetStream, w Wanted) ([]Change, error) {
	if err := usable(ctx, js); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	layout, revision, err := currentLayout(ctx, js)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := w.complete(layout); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	configs := []jetstream.StreamConfig{bucketConfig(w, Bucket), bucketConfig(w, Positions), bucketConfig(w, Leases)}
	for p := range w.Partitions {
		configs = append(configs, partitionConfig(w, p))
	}
	var plan []Change
	var problems []error
	for _, want := range configs {
		changes, err := planStream(ctx, js, want)
		if err != nil {
			problems = append(problems, err)
		}
		plan = append(plan, changes...)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("plan: %w", errors.Join(problems...))
	}
	return append(plan, planLayout(layout, revision, w)...), nil
}

// setupTries bounds how often [Setup] plans where others change things at the same time.
const setupTries = 5

// Setup plans and applies, and again where someone changed things in between: another setup, or a receiver that deletes
// a stream which an older layout had left over. It gives all changes of the plans that it began to take; with an error
// some of the last one's may be undone.
func Setup(ctx context.Context, js jetstream.JetStream, w Wanted) ([]Change, error) {
	var all []Change
	for try := 1; ; try++ {
		plan, err := Plan(ctx, js, w)
		if err != nil {
			return all, err
		}
		done, err := apply(ctx, js, plan)
		if err == nil || try == setupTries || !errors.Is(err, ErrWrongRevision) {
			return append(all, plan...), err
		}
		all = append(all, plan[:done]...)
	}
}

// Apply carries a plan out, streams first and the layout last, so that no node
// learns of a stream that isn't there. It may be interrupted at any point and
// planned again. If someone else changed the layout or deleted a stream meanwhile it says
// ErrWrongRevision; plan again then, as [Setup] does.
func Apply(ctx context.Context, js jetstream.JetStream, plan []Change) error {
	_, err := apply(ctx, js, plan)
	return err
}

// apply also gives the number of changes that are made.
func apply(ctx context.Context, js jetstream.JetStream, plan []Change) (int, error) {
	for i, c := range plan {
		if c.step == nil {
			continue // made with the one before it
		}
		if err := c.step.insist(ctx, js); err != nil {
			return i, fmt.Errorf("%s %s: %w", c.What, c.Name, err)
		}
	}
	return len(plan), nil
}

// insist takes the step again where no answer comes: in a cluster the step before may have left a stream without a leader for a moment.
func (s *step) insist(ctx context.Context, js jetstream.JetStream) error {
	if s.create {
		// Microseconds: no sequence comes back after a wipe unless more than a
		// million messages a second were stored, or the clock is set back.
		s.stream.FirstSeq = uint64(time.Now().UnixMicro())
	}
	tries := 0
	return Insist(ctx, func(ctx context.Context) error {
		tries++
		err := s.apply(ctx, js)
		if tries > 1 && s.layout != nil && errors.Is(err, ErrWrongRevision) {
			// The answer to an earlier try may have been lost.
			if now, _, err2 := currentLayout(ctx, js); err2 != nil {
				return err2
			} else if now != nil && now.ID == s.layout.ID && now.Replicas == s.layout.Replicas {
				return nil
			}
		}
		return err
	})
}

func (s *step) apply(ctx context.Context, js jetstream.JetStream) error {
	switch {
	case s.stream != nil && s.create:
		_, err := js.CreateStream(ctx, *s.stream) // the same once more is no error
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("someone else made it meanwhile, plan again: %w: %w", ErrWrongRevision, err)
		}
		return apiErrorOrNil(err)
	case s.stream != nil:
		_, err := js.UpdateStream(ctx, *s.stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("someone deleted it meanwhile, plan again: %w: %w", ErrWrongRevision, err)
		}
		return apiErrorOrNil(err)
	}
	value, err := json.Marshal(s.layout)
	if err != nil {
		return err
	}
	kv, err := openBucket(ctx, js, Bucket)
	if err != nil {
		return err
	}
	_, err = kv.Update(ctx, layoutKey, value, s.revision)
	return apiErrorOrNil(err)
}

func apiErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return apiError(err)
}

// complete fills in what isn't said, and checks.
func (w *Wanted) complete(layout *Layout) error {
	if layout == nil {
		layout = &Layout{Prefix: DefaultPrefix, Partitions: DefaultPartitions, Replicas: DefaultReplicas}
	}
	if w.Prefix == "" {
		w.Prefix = layout.Prefix
	}
	if w.Partitions == 0 {
		w.Partitions = layout.Partitions
	}
	if w.Replicas == 0 {
		w.Replicas = layout.Replicas
	}
	if w.Retention == "" {
		w.Retention = WorkQueue
	}
	if err := chunk.CheckPrefix(w.Prefix); err != nil {
		return err
	}
	switch {
	case w.Partitions < 1 || w.Partitions > maxPartitions:
		return fmt.Errorf("%d partitions: from 1 to %d are possible", w.Partitions, maxPartitions)
	case w.Replicas < 1 || w.Replicas > 5:
		return fmt.Errorf("%d replicas: from 1 to 5 are possible, an odd number is sensible", w.Replicas)
	case w.MaxBytes < 0:
		return fmt.Errorf("maximum of %d bytes is negative", w.MaxBytes)
	case w.MaxAge < 0:
		return fmt.Errorf("maximum age %s is negative", w.MaxAge)
	case w.Retention != WorkQueue && w.Retention != Limits:
		return fmt.Errorf("retention %q is none of %s, %s", w.Retention, WorkQueue, Limits)
	case w.Retention == WorkQueue && w.MaxAge > 0:
		return fmt.Errorf("a maximum age of %s with retention %s would drop what nobody has read: use retention %s",
			w.MaxAge, WorkQueue, Limits)
	case w.MaxAge > 0 && w.MaxAge < smallestDuplicates:
		return fmt.Errorf("maximum age %s is below %s", w.MaxAge, smallestDuplicates)
	}
	return nil
}

// usable checks that the broker has what we need.
func usable(ctx context.Context, js jetstream.JetStream) error {
	if v := js.Conn().ConnectedServerVersion(); v != "" && !atLeast(v, 2, 10) {
		return fmt.Errorf("the broker is NATS %s: 2.10 or later is needed", v)
	}
	err := Insist(ctx, func(ctx context.Context) error {
		_, err := js.AccountInfo(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("ask for JetStream: %w", apiError(err))
	}
	return nil
}

func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return true // not a version that can be compared
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	if errA != nil || errB != nil {
		return true
	}
	return a > major || (a == major && b >= minor)
}

// currentLayout is nil where there is none; the revision is then that of its
// deletion, or 0.
func currentLayout(ctx context.Context, js jetstream.JetStream) (*Layout, uint64, error) {
	var l Layout
	var revision uint64
	err := Insist(ctx, func(ctx context.Context) (err error) {
		revision, err = readJSON(ctx, js, layoutKey, &l)
		return err
	})
	switch {
	case errors.Is(err, ErrNoStream), errors.Is(err, ErrNotFound):
		return nil, revision, nil
	case err != nil:
		return nil, 0, err
	}
	return &l, revision, nil
}

func planStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) ([]Change, error) {
	var s jetstream.Stream
	err := Insist(ctx, func(ctx context.Context) (err error) {
		s, err = js.Stream(ctx, want.Name)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		for _, subject := range want.Subjects {
			if other, err := js.StreamNameBySubject(ctx, subject); err == nil {
				return nil, fmt.Errorf("stream %s: %w: stream %s takes %s already; delete it or choose another prefix",
					want.Name, ErrForeign, other, subject)
			} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
				return nil, fmt.Errorf("look who takes %s: %w", subject, apiError(err))
			}
		}
		return []Change{{What: "create stream", Name: want.Name, To: describe(want),
			step: &step{stream: &want, create: true}}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", want.Name, apiError(err))
	}
	has := s.CachedInfo().Config
	if why := foreign(has, want); why != "" {
		return nil, fmt.Errorf("stream %s: %w: %s; delete or rename it, or use another account", want.Name, ErrForeign, why)
	}
	to, changes := adjust(has, want)
	if len(changes) > 0 {
		changes[0].step = &step{stream: &to}
	}
	return changes, nil
}

func planLayout(has *Layout, revision uint64, w Wanted) []Change {
	to := Layout{ID: nuid.Next(), Prefix: w.Prefix, Partitions: w.Partitions, Replicas: w.Replicas,
		Created: time.Now().UTC().Truncate(time.Second)}
	if has == nil {
		return []Change{{What: "create layout", Name: layoutKey, To: to.describe(),
			step: &step{layout: &to, revision: revision}}}
	}
	if has.Prefix == to.Prefix && has.Partitions == to.Partitions {
		if has.Replicas == to.Replicas && has.ID != "" {
			return nil
		}
		if has.ID != "" {
			// The same subjects in the same streams: nodes needn't care.
			to.ID, to.Created = has.ID, has.Created
		}
	}
	return []Change{{What: "change layout", Name: layoutKey, From: has.describe(), To: to.describe(),
		step: &step{layout: &to, revision: revision}}}
}

func (l Layout) describe() string {
	return fmt.Sprintf("prefix %s, partitions %d, replicas %d", l.Prefix, l.Partitions, l.Replicas)
}

// Check says what is wrong with a layout that was read from somewhere.
func (l Layout) Check() error {
	if l.ID == "" {
		return errors.New("layout has no id")
	}
	if l.Partitions < 1 || l.Partitions > math.MaxInt32 {
		return fmt.Errorf("layout %s has %d partitions", l.ID, l.Partitions)
	}
	if err := chunk.CheckPrefix(l.Prefix); err != nil {
		return fmt.Errorf("layout %s: %w", l.ID, err)
	}
	return nil
}
