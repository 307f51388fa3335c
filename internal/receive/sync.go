package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// maxSyncs is how many hellos are answered at once; what comes on top is dropped, and asked again. A node says one at a time to each
// of its destinations: one that says many leaves room for the others.
const (
	maxSyncs       = 64
	maxSyncsOfNode = maxSyncs / 8
)

// greeting counts the hellos that are being answered.
type greeting struct {
	mu    sync.Mutex
	total int
	of    map[string]int // by subject
}

func (g *greeting) begin(subject string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= maxSyncs || g.of[subject] >= maxSyncsOfNode {
		return false
	}
	g.total++
	g.of[subject]++
	return true
}

func (g *greeting) end(subject string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.of[subject]--; g.of[subject] == 0 {
		delete(g.of, subject)
	}
}

// syncTime is how long an answer may take: a node waits two seconds.
const syncTime = 1500 * time.Millisecond

// syncQueue is the group of receivers of which one gets each hello.
const syncQueue = "logforward-receivers"

// directSubject is where one receiver hears the hellos of nodes whose partitions it works, handed on by another.
func directSubject(prefix, identity, receiver string) string {
	if identity != "*" {
		identity = chunk.Token(identity)
	}
	return prefix + ".sync." + identity + ".at-" + chunk.Token(receiver)
}

// answerSyncs answers nodes' hellos until ctx ends.
func (r *Receiver) answerSyncs(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	greeting := greeting{of: make(map[string]int)}
	answer := func(direct bool) func(*nats.Msg) {
		return func(m *nats.Msg) {
			if !greeting.begin(m.Subject) {
				r.metrics.syncsDropped.Inc()
				return
			}
			tasks.Go(func() {
				defer greeting.end(m.Subject)
				ctx, cancel := context.WithTimeout(ctx, syncTime)
				defer cancel()
				if err := r.answerSync(ctx, m, direct); err != nil {
					r.logger.Warn("hello not answered", "subject", m.Subject, "error", err)
				}
			})
		}
	}
	any, err := r.nc.QueueSubscribe(chunk.SyncSubject(r.config.Prefix, "*"), syncQueue, answer(false))
	if err != nil {
		return fmt.Errorf("listen for syncs: %w", err)
	}
	own, err := r.nc.Subscribe(directSubject(r.config.Prefix, "*", r.config.Name), answer(true))
	if err != nil {
		return errors.Join(fmt.Errorf("listen for syncs: %w", err), any.Unsubscribe())
	}
	var ended sync.WaitGroup
	for _, sub := range []*nats.Subscription{any, own} {
		ended.Add(1)
		sub.SetClosedHandler(func(string) { ended.Done() })
	}
	<-ctx.Done()
	for _, sub := range []*nats.Subscription{any, own} {
		if !sub.IsValid() {
			return nil // the connection is closed
		}
		if err := sub.Unsubscribe(); err != nil {
			if r.nc.IsConnected() {
				return fmt.Errorf("stop listening for syncs: %w", err)
			}
			return nil
		}
	}
	ended.Wait() // a callback that still runs may begin an answer
	return nil
}

// answerSync answers a hello, or hands it on to the receiver that works the identity's partition. direct: another one has
// handed it on, and it isn't handed on again.
func (r *Receiver) answerSync(ctx context.Context, m *nats.Msg, direct bool) error {
	identity, err := r.syncIdentity(m.Subject, direct)
	if err != nil {
		return err
	}
	if m.Reply != "" && !r.inbox(m.Reply, identity) {
		return fmt.Errorf("reply subject %q is no inbox", m.Reply)
	}
	r.mu.Lock()
	serving := r.serving && r.button.known != nil
	n := r.partitionOf(identity)
	here := serving && r.working[n]
	r.mu.Unlock()
	if serving && !here && !direct && m.Reply != "" {
		if owner := r.owner(n); owner != "" && owner != r.config.Name {
			if h, err := chunk.ParseHello(m.Data); err == nil {
				r.meet(identity, h.Key)
			}
			return r.nc.PublishRequest(directSubject(r.config.Prefix, identity, owner), m.Reply, m.Data)
		}
	}
	hello, err := chunk.ParseHello(m.Data)
	if err != nil {
		return err
	}
	r.metrics.syncs.Inc()
	r.meet(identity, hello.Key)
	if m.Reply == "" {
		return nil // a notice, for whoever works the red button
	}
	answer := chunk.Answer{Receiver: r.config.Name, Time: time.Now().UTC()}
	r.mu.Lock()
	var p *partition
	complete := r.complete
	if here = r.serving && r.working[r.partitionOf(identity)] && r.button.known != nil; here {
		answer.Layout = &chunk.Layout{ID: r.layout.ID, Prefix: r.layout.Prefix, Partitions: r.layout.Partitions}
		p = r.partitions[r.partitionOf(identity)]
	}
	r.mu.Unlock()
	answer.Pause = r.answerPause(ctx, identity, hello)
	if here {
		answer.Logs, err = r.place(ctx, p, identity, hello)
		answer.Ready = err == nil
		if err != nil {
			r.logger.Info("partition isn't ready for a sync", "identity", identity, "error", err)
		}
		if !complete {
			answer.Ready = r.withhold(hello, &answer) && answer.Ready
		}
	}
	b, err := fit(&answer, int(r.nc.MaxPayload()))
	if err != nil {
		return err
	}
	return r.nc.Publish(m.Reply, b)
}

// withhold takes out of an answer what the bucket can't say before it is complete: where a log stands whose node has no state
// of it. What the others are told can't be wrong, for their own word is heard, too. It tells whether anything is left.
func (r *Receiver) withhold(hello *chunk.Hello, answer *chunk.Answer) bool {
	left := false
	for token, h := range hello.Logs {
		if h.Epoch == 0 || !answer.Logs[token].Known {
			if answer.Logs != nil {
				answer.Logs[token] = chunk.AnswerLog{Error: "not yet: the receivers are still putting together what they know"}
			}
			continue
		}
		left = true
	}
	return left
}

// syncIdentity is the identity that a hello's subject names.
func (r *Receiver) syncIdentity(subject string, direct bool) (string, error) {
	if !direct {
		return chunk.ParseSyncSubject(r.config.Prefix, subject)
	}
	rest, ok := strings.CutPrefix(subject, r.config.Prefix+".sync.")
	token, ok2 := strings.CutSuffix(rest, ".at-"+chunk.Token(r.config.Name))
	if !ok || !ok2 {
		return "", fmt.Errorf("subject %q isn't for receiver %s", subject, r.config.Name)
	}
	return chunk.ParseToken(token)
}

// fit encodes an answer with as many of its logs as a message of limit bytes takes.
func fit(answer *chunk.Answer, limit int) ([]byte, error) {
	b, err := json.Marshal(answer)
	if err != nil || len(b) <= limit {
		return b, err
	}
	all := answer.Logs
	answer.Logs = nil
	if b, err = json.Marshal(answer); err != nil {
		return nil, err
	}
	room := limit - len(b) - len(`,"logs":{}`)
	answer.Logs = make(map[string]chunk.AnswerLog)
	for token, l := range all {
		one, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		if n := len(token) + len(one) + len(`"":,`); n <= room {
			answer.Logs[token], room = l, room-n
		}
	}
	return json.Marshal(answer)
}

// place asks the identity's partition. Logs of which more is stored than learnt are looked up in
// their streams, and then the partition is asked again: in this order, a message that
// left the stream in between is seen in the second answer.
func (r *Receiver) place(ctx context.Context, p *partition, identity string, hello *chunk.Hello) (map[string]chunk.AnswerLog, error) {
	said := hello.Logs
	believed := *hello
	believed.Logs = maps.Clone(said)
	for token, h := range said {
		if h.Weak {
			// It may be in the stream still: to believe it now would drop it there as a duplicate.
			h.Confirmed, h.Digest = 0, 0
			believed.Logs[token] = h
		}
	}
	logs, err := p.ask(ctx, ask{identity: identity, hello: &believed})
	if err != nil {
		return nil, err
	}
	pending := r.count(ctx, p, identity, said, logs)
	for token, n := range pending {
		if n == 0 {
			believed.Logs[token] = said[token] // what the broker has lost it can't give any more
		}
	}
	if len(pending) > 0 {
		if logs, err = p.ask(ctx, ask{identity: identity, hello: &believed, pending: pending}); err != nil {
			return nil, err
		}
	}
	names := make(map[string]string) // by token, of the logs of which nothing was found so far
	for token, h := range said {
		if h.Epoch != 0 || logs[token].Known || logs[token].Error != "" {
			continue
		}
		if n, counted := pending[token]; n > 0 || !counted {
			logs[token] = chunk.AnswerLog{Error: "nothing of it is committed, and chunks of it may wait in the stream"}
			continue
		}
		if names[token], err = chunk.ParseToken(token); err != nil {
			delete(names, token) // ParseHello has checked it
		}
	}
	unknown, err := p.unknown(ctx, identity, slices.Collect(maps.Values(names)))
	if err != nil {
		p.r.logger.Warn("can't tell what the positions say of logs", "identity", identity, "error", err)
	}
	for token, name := range names {
		if !unknown[name] {
			logs[token] = chunk.AnswerLog{Error: "not yet: what the positions say of it isn't read here"}
		}
	}
	return logs, nil
}

// counts is how many logs are looked up at once: one after the other, those of a busy node would
// take longer than it waits where the broker is far away. More than that are looked up in one list of all of the node's.
const counts = 16

// listings is how many streams of older layouts are listed for one hello at most: a node says itself where it has published.
const listings = 4

// count looks up how many messages the streams hold of the logs that are undecided. What can't be told in
// time is left out.
func (r *Receiver) count(ctx context.Context, p *partition, identity string, said map[string]chunk.HelloLog, logs map[string]chunk.AnswerLog) map[string]uint64 {
	ctx, cancel := context.WithTimeout(ctx, syncTime/2)
	defer cancel()
	open := make(map[string]int) // by token: the partition to which it was published
	for token, h := range said {
		if undecided(&h, logs[token]) {
			open[token] = h.Partition
		}
	}
	if len(open) > counts {
		pending, err := r.pendingOfAll(ctx, p.n, identity, open)
		if err == nil {
			return pending
		}
		if !errors.Is(err, broker.ErrTooMany) {
			r.logger.Warn("can't tell what a stream holds", "identity", identity, "error", err)
			return nil
		}
	}
	var mu sync.Mutex
	pending := make(map[string]uint64)
	var group errgroup.Group
	group.SetLimit(counts)
	for token, then := range open {
		group.Go(func() error {
			n, err := r.pendingOf(ctx, p.n, then, identity, token)
			if err != nil {
				return fmt.Errorf("log %s: %w", token, err)
			}
			mu.Lock()
			defer mu.Unlock()
			pending[token] = n
			return nil
		})
	}
	if err := group.Wait(); err != nil { // one line, not one for each of its logs
		r.logger.Warn("can't tell what a stream holds", "identity", identity, "error", err)
	}
	return pending
}

// undecided tells whether an answer depends on what the stream holds of a log.
func undecided(h *chunk.HelloLog, l chunk.AnswerLog) bool {
	if h.Epoch == 0 {
		return !l.Known && l.Error == ""
	}
	if l.Epoch > h.Epoch || l.Epoch == h.Epoch && l.Position >= h.Stored {
		return false
	}
	return h.Stored > h.Confirmed || h.Weak
}

// pendingOf counts a log's messages in the stream of its partition, and in the one that the node
// published to.
func (r *Receiver) pendingOf(ctx context.Context, now, then int, identity, token string) (uint64, error) {
	name, err := chunk.ParseToken(token)
	if err != nil {
		return 0, err
	}
	var sum uint64
	// The old one first: a chunk on its way to the new one is in the new one before it leaves the old.
	for _, n := range slices.Compact([]int{then, now}) {
		subject := chunk.Subject{Prefix: r.config.Prefix, Partition: n, Identity: identity, Log: name}.String()
		count, err := broker.SubjectPending(ctx, r.js, streamName(n), subject)
		if err != nil {
			if n != now && errors.Is(err, broker.ErrNoStream) {
				continue // gone with its layout
			}
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// pendingOfAll is pendingOf for many logs: one list of the identity's subjects from each stream. The error is [broker.ErrTooMany] where they have
// to be asked for one by one.
func (r *Receiver) pendingOfAll(ctx context.Context, now int, identity string, then map[string]int) (map[string]uint64, error) {
	streams := slices.Compact(slices.Sorted(maps.Values(then)))
	streams = slices.DeleteFunc(streams, func(n int) bool { return n == now })
	if len(streams) > listings {
		return nil, fmt.Errorf("%w: of %d streams", broker.ErrTooMany, len(streams))
	}
	pending := make(map[string]uint64, len(then))
	for token := range then {
		pending[token] = 0
	}
	for _, n := range append(streams, now) { // in this order, as pendingOf does
		subjects, err := broker.SubjectsPending(ctx, r.js, streamName(n), chunk.NodeSubjects(r.config.Prefix, n, identity))
		if n != now && errors.Is(err, broker.ErrNoStream) {
			continue // gone with its layout
		}
		if err != nil {
			return nil, err
		}
		for subject, count := range subjects {
			token := subject[strings.LastIndexByte(subject, '.')+1:]
			if at, asked := then[token]; asked && (n == now || n == at) {
				pending[token] += count
			}
		}
	}
	return pending, nil
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
