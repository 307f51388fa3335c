package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// maxSyncs is how many hellos are answered at once; what comes on top is dropped, and asked again.
const maxSyncs = 64

// syncTime is how long an answer may take: a node waits two seconds.
const syncTime = 1500 * time.Millisecond

// answerSyncs answers nodes' hellos until ctx ends.
func (r *Receiver) answerSyncs(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	slots := make(chan struct{}, maxSyncs)
	sub, err := r.nc.QueueSubscribe(chunk.SyncSubject(r.config.Prefix, "*"), "logforward-receivers", func(m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		default:
			r.metrics.syncsDropped.Inc()
			return
		}
		tasks.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, syncTime)
			defer cancel()
			if err := r.answerSync(ctx, m); err != nil {
				r.logger.Warn("hello not answered", "subject", m.Subject, "error", err)
			}
		})
	})
	if err != nil {
		return fmt.Errorf("listen for syncs: %w", err)
	}
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	<-ctx.Done()
	if !sub.IsValid() {
		return nil // the connection is closed
	}
	if err := sub.Unsubscribe(); err != nil {
		if r.nc.IsConnected() {
			return fmt.Errorf("stop listening for syncs: %w", err)
		}
		return nil
	}
	<-ended // a callback that still runs may begin an answer
	return nil
}

func (r *Receiver) answerSync(ctx context.Context, m *nats.Msg) error {
	identity, err := chunk.ParseSyncSubject(r.config.Prefix, m.Subject)
	if err != nil {
		return err
	}
	if !r.inbox(m.Reply) {
		return fmt.Errorf("reply subject %q is no inbox", m.Reply)
	}
	hello, err := chunk.ParseHello(m.Data)
	if err != nil {
		return err
	}
	r.metrics.syncs.Inc()
	answer := chunk.Answer{Receiver: r.config.Name}
	r.mu.Lock()
	ready := r.serving && r.complete
	var p *partition
	if ready {
		answer.Layout = &chunk.Layout{ID: r.layout.ID, Prefix: r.layout.Prefix, Partitions: r.layout.Partitions}
		p = r.partitions[r.partitionOf(identity)]
	}
	answer.Pause = r.pauseOf(identity)
	r.mu.Unlock()
	if ready {
		answer.Logs, err = r.place(ctx, p, identity, hello)
		answer.Ready = err == nil
		if err != nil {
			r.logger.Info("partition isn't ready for a sync", "identity", identity, "error", err)
		}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return r.nc.Publish(m.Reply, b)
}

// place asks the identity's partition. Logs of which more is stored than learnt are looked up in
// their streams, and then the partition is asked again: in this order, a message that
// left the stream in between is seen in the second answer.
func (r *Receiver) place(ctx context.Context, p *partition, identity string, hello *chunk.Hello) (map[string]chunk.AnswerLog, error) {
	logs, err := p.ask(ctx, ask{identity: identity, hello: hello})
	if err != nil {
		return nil, err
	}
	pending := make(map[string]uint64)
	for token, h := range hello.Logs {
		l := logs[token]
		if h.Epoch == 0 || h.Stored <= h.Confirmed || l.Epoch == h.Epoch && l.Position >= h.Stored || l.Epoch > h.Epoch {
			continue
		}
		n, err := r.pendingOf(ctx, p.n, h.Partition, identity, token)
		if err != nil {
			r.logger.Warn("can't tell what a stream holds", "identity", identity, "log", token, "error", err)
			continue
		}
		pending[token] = n
	}
	if len(pending) == 0 {
		return logs, nil
	}
	return p.ask(ctx, ask{identity: identity, hello: hello, pending: pending})
}

// pendingOf counts a log's messages in the stream of its partition, and in the one that the node
// published to.
func (r *Receiver) pendingOf(ctx context.Context, now, then int, identity, token string) (uint64, error) {
	name, err := chunk.ParseToken(token)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for i, n := range []int{now, then} {
		if i == 1 && then == now {
			break
		}
		subject := chunk.Subject{Prefix: r.config.Prefix, Partition: n, Identity: identity, Log: name}.String()
		count, err := broker.SubjectPending(ctx, r.js, streamName(n), subject)
		if err != nil {
			if i == 1 && errors.Is(err, broker.ErrNoStream) {
				continue // gone with its layout
			}
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// ask puts a hello to the partition's loop.
func (p *partition) ask(ctx context.Context, a ask) (map[string]chunk.AnswerLog, error) {
	a.reply = make(chan map[string]chunk.AnswerLog, 1)
	select {
	case p.asks <- a:
		return <-a.reply, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("partition %d: %w", p.n, ctx.Err())
	}
}

// setPause takes over the red button's state.
func (r *Receiver) setPause(p *broker.Pause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = p
}

// pauseOf is the pause as it concerns one identity; a zero one lifts any that was. mu is held.
func (r *Receiver) pauseOf(identity string) *chunk.Pause {
	p := r.pause
	if p == nil {
		return &chunk.Pause{}
	}
	if p.Match != "" {
		if ok, err := path.Match(p.Match, identity); err != nil || !ok {
			return &chunk.Pause{}
		}
	}
	return &chunk.Pause{Since: p.Since, Until: p.Until, By: p.By, Reason: p.Reason, Match: p.Match}
}
