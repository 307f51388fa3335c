package forward

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
)

const (
	helloTimeout = 2 * time.Second
	// helloGather is how long after the first log wants a hello others may join it:
	// a thousand logs that start together fit into two messages.
	helloGather = 5 * time.Millisecond
	helloLate   = 30 * time.Second
	// helloSoon is when a log is asked for again of which the centre can't say yet where it stands.
	helloSoon = 500 * time.Millisecond
	// helloRoom is more than a hello takes beside its logs, and helloLog more than one log beside its token.
	helloRoom = 512
	helloLog  = 320
)

// ask wants a hello for one log soon.
func (l *link) ask(token string, after time.Duration) {
	at := time.Now().Add(after)
	l.mu.Lock()
	if old, ok := l.due[token]; !ok || at.Before(old) {
		l.due[token] = at
	}
	l.mu.Unlock()
	l.kick()
}

func (l *link) helloAll() {
	at := time.Now()
	l.mu.Lock()
	for token := range l.forwarders {
		l.due[token] = at
	}
	l.mu.Unlock()
	l.kick()
}

// greet says hello for each log when it is due, until ctx ends.
func (l *link) greet(ctx context.Context) {
	failures := backoff{first: 200 * time.Millisecond, most: helloLate}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			if !sleep(ctx, helloGather) {
				return
			}
		case <-timer.C:
		}
		if nc := l.toMeasure(); nc != nil {
			l.stopped.Go(func() { l.measure(ctx, nc) }) // a hello needn't wait for it
		}
		tokens, next := l.dueNow()
		for batch := range l.batches(tokens) {
			if l.hello(ctx, batch) {
				failures.reset()
				continue
			}
			if ctx.Err() != nil {
				return
			}
			wait := failures.next()
			for _, token := range batch {
				l.ask(token, wait)
			}
		}
		if len(tokens) > 0 {
			_, next = l.dueNow()
		}
		timer.Reset(next)
	}
}

// batches are the logs of one hello each: as many as one message takes.
func (l *link) batches(tokens []string) iter.Seq[[]string] {
	l.mu.Lock()
	limit := l.maxPayload
	l.mu.Unlock()
	if limit <= 0 {
		limit = chunk.MaxControl
	}
	return func(yield func([]string) bool) {
		for len(tokens) > 0 {
			n := 0
			for size := helloRoom; n < min(len(tokens), chunk.MaxHelloLogs); n++ {
				if size += helloLog + len(tokens[n]); size > limit && n > 0 {
					break
				}
			}
			if !yield(tokens[:n]) {
				return
			}
			tokens = tokens[n:]
		}
	}
}

// dueNow gives the logs whose hello is due, and how long until the next one is.
func (l *link) dueNow() ([]string, time.Duration) {
	now := time.Now()
	next := l.limits.SyncInterval
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return nil, next // connected kicks
	}
	for _, at := range l.due {
		next = min(next, at.Sub(now))
	}
	if next > 0 {
		return nil, next
	}
	// Those that are due soon come along: so the logs of a node stay together.
	var tokens []string
	next = l.limits.SyncInterval
	for token, at := range l.due {
		if wait := at.Sub(now); wait > l.limits.SyncInterval*2/5 {
			next = min(next, wait)
			continue
		}
		tokens = append(tokens, token)
	}
	slices.Sort(tokens)
	return tokens, next
}

// hello asks for a batch of logs and gives each its part of the answer. The next
// hello of each is put on the calendar before: an answer may ask for an earlier one.
func (l *link) hello(ctx context.Context, tokens []string) bool {
	h := chunk.Hello{Instance: l.instance, Key: l.key, Pause: l.obeyedNow(), Logs: make(map[string]chunk.HelloLog, len(tokens))}
	fifth := l.limits.SyncInterval / 5
	again := time.Now().Add(l.limits.SyncInterval - fifth + rand.N(2*fifth+1))
	asked := make(map[string]*forwarder, len(tokens))
	for _, token := range tokens {
		f := l.find(token)
		l.mu.Lock()
		if f == nil {
			delete(l.due, token)
		} else {
			l.due[token] = again
		}
		l.mu.Unlock()
		if f == nil {
			continue
		}
		var layout string
		h.Logs[token], layout = f.greeting()
		if layout != "" {
			h.Layout = layout
		}
		asked[token] = f
	}
	if len(asked) == 0 {
		return true
	}
	reply, err := l.request(ctx, &h)
	var a *chunk.Answer
	var known uint64 // stands for what the answer says of logs; 0: it is to be read
	if err == nil {
		if a, known = l.again(reply, asked); known == 0 {
			a, err = chunk.ParseAnswer(reply)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			l.log.Debug("no answer to hello", "logs", len(asked), "error", err)
		}
		for _, f := range asked {
			f.post(f.onNoAnswer)
		}
		return false
	}
	l.mu.Lock()
	l.seen = time.Now()
	l.mu.Unlock()
	l.answeredPause(a.Pause, h.Pause.Number())
	if known != 0 {
		return true
	}
	l.parsed.Add(1)
	said := l.fingerprint(reply)
	for token, f := range asked {
		was := h.Logs[token]
		answer, ok := a.Logs[token]
		switch {
		case !a.Ready || len(a.Logs) == 0:
			answer = chunk.AnswerLog{Error: "the receiver isn't ready to say"}
		case !ok:
			l.ask(token, 0) // the answer had no room for it
			continue
		case answer.Error != "":
			l.ask(token, helloSoon)
		}
		if f.mail.disturb(&was, a.Layout, &answer, said) {
			f.answered(was, a.Layout, answer)
		}
	}
	return a.Ready
}

// again reads an answer that says of logs, byte for byte, what left each of those that were asked for asleep before, and has left it so since. Its fingerprint is
// that of what it says; 0: it is another one.
func (l *link) again(reply []byte, asked map[string]*forwarder) (a *chunk.Answer, fingerprint uint64) {
	for _, f := range asked { // most often it is seen at once that some aren't
		if !f.mail.sleepsSince(0) {
			return nil, 0
		}
	}
	head, logs, ok := chunk.SplitAnswer(reply)
	if !ok || !head.Ready {
		return nil, 0
	}
	said := l.fingerprintOf(head.Layout, logs)
	for _, f := range asked {
		if !f.mail.sleepsSince(said) {
			return nil, 0
		}
	}
	return head, said
}

// fingerprint stands for what an answer says of logs; 0: nothing does.
func (l *link) fingerprint(reply []byte) uint64 {
	head, logs, ok := chunk.SplitAnswer(reply)
	if !ok || !head.Ready {
		return 0
	}
	return l.fingerprintOf(head.Layout, logs)
}

// fingerprintOf is never 0. Nobody else knows the seed, so nobody can make two answers alike.
func (l *link) fingerprintOf(layout *chunk.Layout, logs []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	if layout != nil {
		_, _ = h.WriteString(layout.ID)
	}
	_ = h.WriteByte(0)
	_, _ = h.Write(logs)
	return max(h.Sum64(), 1)
}

func (l *link) request(ctx context.Context, h *chunk.Hello) ([]byte, error) {
	l.mu.Lock()
	nc := l.conn
	l.mu.Unlock()
	if nc == nil {
		return nil, errors.New("not connected")
	}
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	m, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: chunk.SyncSubject(l.destination.Prefix, l.identity), Data: marshal(h)})
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
