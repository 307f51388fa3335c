package forward

import (
	"fmt"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// allowed is what of the node's files may be this log's.
func (f *forwarder) allowed() tail.Allowed {
	permit, log := f.engine.cfg.Permit, f.want.Name
	if permit == nil {
		return f.engine.cfg.Allowed
	}
	return f.engine.cfg.Allowed.Also(func(realpath string) error { return permit(log, realpath) })
}

// tailConfig leaves it to tail to say which log a line is about: a JSON document with a name twice isn't taken everywhere.
func (f *forwarder) tailConfig() tail.Config {
	c := &f.engine.cfg
	return tail.Config{
		Name: f.want.Name, Path: f.want.Path, Start: f.want.Start, Since: f.want.Since, Quiet: c.Limits.Quiet, Linger: c.Limits.LateWrites,
		Allowed: f.allowed(), Watcher: f.engine.watcher, Budget: f.engine.budget, Logger: f.link.log, Now: c.Now,
		Olddirs: c.Olddirs, StateFile: f.engine.cfg.State.file(),
	}
}

// open begins where the checkpoint says. Without one, tail begins by the start rule at
// once, so that nothing that is written while the centre is asked gets lost; the
// numbering begins when it has answered.
func (f *forwarder) open() error {
	saved := f.engine.saver
	rec, err := saved.checkpoint(f.want.Destination, f.want.Name)
	if err != nil {
		return err
	}
	from, err := saved.active(f.want.Name)
	if err != nil {
		return err
	}
	if from != "" && from != f.want.Destination {
		if rec, err = f.move(rec, from); err != nil {
			return err
		}
	}
	if rec == nil {
		rec = &record{Log: f.want.Name, Destination: f.want.Destination}
	}
	t := tail.New(f.tailConfig())
	if err := t.Open(rec.Tail); err != nil {
		f.log.Error("the log's checkpoint doesn't fit; it counts as lost", "error", err)
		_ = t.Close()
		t, rec = tail.New(f.tailConfig()), &record{Log: f.want.Name, Destination: f.want.Destination, Known: max(rec.Known, rec.Epoch)}
		if err := t.Open(tail.State{}); err != nil {
			_ = t.Close()
			return fmt.Errorf("begin %s at %s: %w", f.want.Name, f.want.Path, err)
		}
	}
	f.tail, f.rec = t, *rec
	f.rec.Log, f.rec.Destination = f.want.Name, f.want.Destination // as they are: JSON spoils what isn't UTF-8
	f.rec.Path, f.rec.Drained = f.want.Path, false
	f.begun = rec.Epoch > 0
	f.restored, f.safe = rec.Reserved, rec.Reserved
	f.flight.reset(rec.Confirmed, rec.Digest)
	f.restoreBlock()
	f.stored, f.next = rec.Confirmed, rec.Confirmed
	if f.former = 0; rec.Reserved > rec.Confirmed {
		f.former = min(rec.Reserved, rec.Confirmed+uint64(max(t.Pending(), 0)))
	}
	f.rec.Round++
	f.life++
	f.ending = ending{}
	f.waiting, f.asking, f.synced, f.heard, f.fork.due, f.place, f.layout = 0, 0, false, false, false, nil, nil
	f.fence = f.save(true)
	f.opening = f.fence
	f.linkUp()
	return nil
}

// move takes a log over from another destination: from what is confirmed there, in a
// numbering of its own here.
func (f *forwarder) move(here *record, from string) (*record, error) {
	there, err := f.engine.saver.checkpoint(from, f.want.Name)
	if err != nil || there == nil {
		return here, err
	}
	t := tail.New(tail.Config{
		Name: f.want.Name, Path: f.want.Path, Start: f.want.Start, Since: f.want.Since, Allowed: f.allowed(),
		Logger: f.link.log, Now: f.engine.cfg.Now, Olddirs: f.engine.cfg.Olddirs, StateFile: f.engine.cfg.State.file(),
	})
	if err := t.Open(there.Tail); err != nil {
		_ = t.Close()
		f.log.Error("the checkpoint at the former destination doesn't fit; the log begins by what is known here", "former", from, "error", err)
		return here, nil
	}
	err = t.Rebase(there.Confirmed)
	moved := &record{Log: f.want.Name, Destination: f.want.Destination, Tail: t.State()}
	_ = t.Close()
	if err != nil {
		return nil, fmt.Errorf("move %s from %s: %w", f.want.Name, from, err)
	}
	if here != nil {
		known := max(here.Epoch, here.Known)
		moved.Layout, moved.Round, moved.Known = here.Layout, here.Round, known
		if here.Epoch > 0 {
			moved.Epoch, moved.Predecessor = f.epochAfter(known), known
		}
	}
	moved.Moved = true
	f.log.Info("moved from another destination", "from", from, "position there", there.Confirmed)
	return moved, nil
}

// save hands the checkpoint over to be written; publishing may wait for the number it returns.
func (f *forwarder) save(urgent bool) uint64 {
	f.saveSeq++
	seq, reserved := f.saveSeq, f.rec.Reserved
	f.rec.Tail, f.rec.Saved, f.rec.Seal = f.tail.State(), f.engine.cfg.Now().UTC(), f.blockAtConfirmed()
	f.dirty, f.lastSave = false, time.Now()
	raw, err := f.rec.encode()
	if err != nil {
		f.fileErr = err
		return seq
	}
	epoch := f.rec.Epoch
	f.engine.saver.save(saving{raw: raw, log: f.rec.Log, destination: f.rec.Destination, done: func() {
		f.post(func() {
			f.savedSeq = max(f.savedSeq, seq)
			if epoch == f.rec.Epoch {
				f.safe = max(f.safe, reserved)
			}
		})
	}}, urgent)
	return seq
}

// checkpoint is how long until the next one; it makes it where that is due.
func (f *forwarder) checkpoint(now time.Time) time.Duration {
	if !f.dirty || f.tail == nil {
		return time.Hour
	}
	if wait := f.lastSave.Add(f.engine.cfg.Limits.Checkpoint).Sub(now); wait > 0 {
		return wait
	}
	f.save(false)
	return time.Hour
}

// offer takes note of the layout that the centre uses.
func (f *forwarder) offer(layout *chunk.Layout) {
	switch {
	case f.rec.Layout == nil:
		f.takeLayout(layout)
	case f.rec.Layout.ID == layout.ID:
		f.layout = nil
	default:
		f.layout = layout
	}
}

// noStreamFor is how long the old layout's subject must have had no stream, or been refused, until
// nothing of this log is waited for there.
const noStreamFor = 30 * time.Second

// settle changes to the new layout once everything that was sent by the old one is
// confirmed: else two partitions would hold chunks of one log, and two receivers ask for it.
func (f *forwarder) settle(now time.Time) {
	if f.layout == nil {
		return
	}
	old := f.rec.Layout
	same := old.Prefix == f.layout.Prefix &&
		chunk.Partition(f.engine.cfg.Identity, old.Partitions) == chunk.Partition(f.engine.cfg.Identity, f.layout.Partitions)
	gone := !f.bare.IsZero() && now.Sub(f.bare) >= noStreamFor
	// What an earlier run sent isn't known, but it was in the file: that goes by the old layout again.
	if !same && !gone && (f.flight.tried() || f.flight.start < f.former) {
		return
	}
	if gone && !same {
		f.log.Warn("the old layout's stream is gone, or isn't permitted any more; what was sent there is sent again", "layout", old.ID, "new", f.layout.ID)
		f.goBack(f.flight.start)
	}
	f.takeLayout(f.layout)
}

func (f *forwarder) takeLayout(layout *chunk.Layout) {
	taken := *layout
	f.rec.Layout, f.layout, f.bare = &taken, nil, time.Time{}
	f.fence = f.save(true)
	f.log.Info("layout", "id", taken.ID, "prefix", taken.Prefix, "partition", chunk.Partition(f.engine.cfg.Identity, taken.Partitions), "partitions", taken.Partitions)
}

// helloEpoch is the epoch that a hello says; 0: no state.
func (f *forwarder) helloEpoch() uint64 {
	if !f.begun {
		return 0
	}
	return f.rec.Epoch
}
