package forward

import "logforward/internal/chunk"

// rest is where a log stands that sleeps and waits for nothing: it is idle, the centre has said so since the last connect, and nothing is wrong. Each hello
// is answered for each log, and most logs of a node are quiet: an answer that says just this to one needn't wake it.
type rest struct {
	epoch    uint64 // 0: it doesn't rest
	position uint64 // all that was read, and confirmed
	digest   chunk.Digest
	layout   string // id
}

// rest is taken down when all there is to do is done, and holds while the forwarder sleeps.
func (f *forwarder) rest() rest {
	if f.shown != Idle || !f.begun || !f.heard || f.centreErr != nil || f.layout != nil || f.rec.Weak || f.fence > f.savedSeq {
		return rest{}
	}
	return rest{epoch: f.rec.Epoch, position: f.flight.start, digest: f.flight.digest, layout: f.rec.Layout.ID}
}

// disturbedBy tells whether an answer to a hello that said was is anything but what the log knows: that the centre has its epoch up to just where it
// rests, or, where it rests at the beginning, nothing. Of that [forwarder.onAnswer] changes nothing but rec.Known, which nobody looks at below the epoch.
func (r rest) disturbedBy(was *chunk.HelloLog, layout *chunk.Layout, a *chunk.AnswerLog) bool {
	switch {
	case r.epoch == 0, was.Epoch != r.epoch, layout != nil && layout.ID != r.layout, a.Error != "", a.Resend != nil, a.Fork:
		return true
	case !a.Known:
		return r.position > 0 // it has lost what it said was central
	}
	return a.Epoch != r.epoch || a.Position != r.position || a.Digest != r.digest
}

// answered takes what the centre says to a hello, on the link's goroutine.
func (f *forwarder) answered(was chunk.HelloLog, layout *chunk.Layout, a chunk.AnswerLog) {
	f.post(func() { f.onAnswer(was, layout, a) })
}
