package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// Overview is all receivers with what they work, as the broker has it.
type Overview struct {
	Layout     broker.Layout    `json:"layout"`
	Receivers  []ReceiverView   `json:"receivers"`
	Partitions []PartitionView  `json:"partitions"` // those of the layout in use, and streams that an older layout has left over
	leases     map[int]held     // by partition
	beats      map[string]*seen // by name
}

// ReceiverView is one receiver.
type ReceiverView struct {
	Beat
	Alive      bool  `json:"alive"`             // its heart beats, and its disk doesn't hang
	Drained    bool  `json:"drained,omitempty"` // it shall work no partition
	Partitions []int `json:"partitions"`        // numbers of those that it owns, of the layout in use
}

// PartitionView is one partition, or a stream that an older layout has left over.
type PartitionView struct {
	Partition int       `json:"partition"`          // its number
	Leftover  bool      `json:"leftover,omitempty"` // it belongs to an older layout, and is worked until it is empty
	Owner     string    `json:"owner,omitempty"`    // name of the receiver; absent: nobody
	Term      uint64    `json:"term"`               // counts the terms of this partition
	Since     time.Time `json:"since,omitzero"`     // when the owner's term began
	Messages  uint64    `json:"messages"`           // how many messages are in its stream
	Bytes     uint64    `json:"bytes"`              // how many bytes are in its stream
}

type seen struct {
	beat     Beat
	revision uint64
	moved    bool
}

// lookEvery is how often Look reads the bucket.
const lookEvery = 200 * time.Millisecond

// lookMost bounds what a receiver can have Look wait for its heart, and so does half of the time that Look has.
const lookMost = 30 * time.Second

// Look reads who works what. Whether a receiver lives shows in its heart's beating: Look waits for that, up to the longest
// lease timeout that any receiver has set, normally a second.
func Look(ctx context.Context, js jetstream.JetStream, records *broker.Records) (*Overview, error) {
	o := &Overview{Receivers: []ReceiverView{}, beats: make(map[string]*seen)}
	err := broker.Insist(ctx, func(ctx context.Context) error {
		shared, err := broker.OpenShared(ctx, js)
		if err == nil {
			o.Layout, err = shared.Layout(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	began, most := time.Now(), lookMost
	if end, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(end)/2)
	}
	var t *table
	for first := true; ; first = false {
		list, err := records.List(ctx)
		if err != nil {
			return nil, err
		}
		t = newTable("", 2)
		for _, rec := range list {
			t.observe(rec)
		}
		waiting := false
		for name, b := range t.beats {
			old := o.beats[name]
			now := &seen{beat: b.Beat, revision: b.revision, moved: old != nil && (old.moved || old.revision != b.revision)}
			o.beats[name] = now
			if !now.moved && !b.Left && !b.Hung && !b.Forgotten && time.Since(began) < min(max(time.Duration(b.Timeout), lookEvery), most) {
				waiting = true
			}
		}
		if !waiting && !first {
			break
		}
		if !sleep(ctx, lookEvery) {
			return nil, ctx.Err()
		}
	}
	o.leases = t.leases
	if err := o.partitions(ctx, js); err != nil {
		return nil, err
	}
	o.receivers(t)
	return o, nil
}

func (o *Overview) receivers(t *table) {
	for name, b := range o.beats {
		if b.beat.Forgotten {
			continue
		}
		v := ReceiverView{Beat: b.beat, Alive: b.moved && !b.beat.Left && !b.beat.Hung, Drained: t.drains[name], Partitions: []int{}}
		for _, p := range o.Partitions {
			if p.Owner == name && !p.Leftover {
				v.Partitions = append(v.Partitions, p.Partition)
			}
		}
		o.Receivers = append(o.Receivers, v)
	}
	slices.SortFunc(o.Receivers, func(a, b ReceiverView) int { return cmp.Compare(a.Name, b.Name) })
}

func (o *Overview) partitions(ctx context.Context, js jetstream.JetStream) error {
	numbers := make([]int, 0, o.Layout.Partitions)
	for n := range o.Layout.Partitions {
		numbers = append(numbers, n)
	}
	for n, l := range o.leases {
		if n >= o.Layout.Partitions && l.Owner != "" {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		l := o.leases[n]
		v := PartitionView{Partition: n, Leftover: n >= o.Layout.Partitions, Owner: l.Owner, Term: l.Term, Since: l.Since}
		var stream jetstream.Stream
		err := broker.Insist(ctx, func(ctx context.Context) (err error) {
			stream, err = js.Stream(ctx, streamName(n))
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound) && v.Leftover:
			continue
		case err != nil:
			return fmt.Errorf("stream %s: %w", streamName(n), err)
		}
		state := stream.CachedInfo().State
		v.Messages, v.Bytes = state.Msgs, state.Bytes
		o.Partitions = append(o.Partitions, v)
	}
	return nil
}

// Receiver finds one by name.
func (o *Overview) Receiver(name string) *ReceiverView {
	for i := range o.Receivers {
		if o.Receivers[i].Name == name {
			return &o.Receivers[i]
		}
	}
	return nil
}

// Location is a range of a log's positions and who holds it.
type Location struct {
	Receiver string    `json:"receiver"`         // name of the one that wrote it
	Host     string    `json:"host,omitempty"`   // of that receiver, where it is known
	Output   string    `json:"output,omitempty"` // directory there
	File     string    `json:"file"`             // below it; a compression's ending may be added
	Epoch    uint64    `json:"epoch"`            // of the positions
	From     uint64    `json:"from"`             // position of its first byte
	To       uint64    `json:"to"`               // position behind its last
	Offset   int64     `json:"offset"`           // of From in File, in bytes
	Since    time.Time `json:"since,omitzero"`   // when the range was begun; absent: not known
}

// Located is where a log lies, by its record.
type Located struct {
	Epoch     uint64     `json:"epoch"`     // that the log is in
	Position  uint64     `json:"position"`  // up to which it is committed
	Locations []Location `json:"locations"` // ranges of positions, oldest first
}

// Locate reads a log's record. It names the last ranges, those of older files are in the ledgers. ErrNotFound: nothing is known of the log.
func Locate(ctx context.Context, positions, leases *broker.Records, identity, log string) (*Located, error) {
	value, _, err := positions.Get(ctx, key(identity, log))
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(value)
	if err != nil {
		return nil, err
	}
	list, err := leases.List(ctx)
	if err != nil {
		return nil, err
	}
	t := newTable("", 2)
	for _, r := range list {
		t.observe(r)
	}
	l := &Located{Epoch: rec.Place.Epoch, Position: rec.Place.Position, Locations: []Location{}}
	for _, s := range rec.Ranges {
		x := Location{Receiver: s.Receiver, File: s.File, Epoch: s.Epoch, From: s.From, To: s.To, Offset: s.Offset, Since: s.Since}
		if b := t.beats[s.Receiver]; b != nil {
			x.Host, x.Output = b.Host, b.Output
		}
		l.Locations = append(l.Locations, x)
	}
	return l, nil
}

// AddLedgers adds the ranges that ledgers below the outputs tell of and the record doesn't any more.
func (l *Located) AddLedgers(outputs []string, identity, log string) error {
	extents, err := Extents(outputs, identity, log)
	if err != nil {
		return err
	}
	known := make(map[place]bool, len(l.Locations)+len(extents))
	for _, o := range l.Locations {
		known[place{o.Epoch, o.From}] = true
	}
	for _, x := range extents {
		at := place{x.Epoch, x.From}
		if x.Gone || known[at] {
			continue
		}
		known[at] = true
		to := x.From
		if x.End >= 0 {
			to += uint64(x.End - x.Offset)
		}
		l.Locations = append(l.Locations, Location{Output: x.Output, File: x.File, Epoch: x.Epoch, From: x.From, To: to, Offset: x.Offset, Since: x.Since})
	}
	slices.SortStableFunc(l.Locations, func(a, b Location) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	return nil
}
