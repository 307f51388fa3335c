package receive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// A model of one log, three receivers and a broker, for thousands of schedules. What decides is the product's own code: the
// records, their ranges and what a begin makes of them, the cursor's judgement, the marks. The disk, the bucket, the stream and
// the network are the model's; time is a sequence of steps, chosen by a seed. Leases take no part: any receiver may
// believe at any time that it is the owner.
//
// After each step what the node was told to forget must lie in some receiver's file; in the end nothing may be missing, files
// must be in order, and as long as the broker has lost nothing, one receiver must have committed each byte.
//
// One thing is allowed: where the broker has lost what it acknowledged, a receiver may have cut, because the record named another's range
// in its place, what only one who is away knew to be committed. It lies where it was set aside then, until the product's own rule drops that, or puts it
// back: in the end it must be in a file.

// modelLength is how many positions the log has.
const modelLength = 40

type modelUpdate struct {
	from     int // receiver
	life     int // of it: who was restarted hears nothing any more
	expected uint64
	value    record
}

type model struct {
	rng    *rand.Rand
	trace  []string
	broken string

	// The node.
	sent      uint64
	confirmed uint64
	digests   []chunk.Digest
	data      []byte

	// The broker.
	rec      *record // nil: none
	revision uint64
	history  []modelState // of the bucket, for power failures
	stream   []*modelMessage
	consumer int // the current one
	updates  []modelUpdate
	lossless bool
	lossy    bool // the broker may lose what it acknowledged
	aside    bool // something that was confirmed lay only where it was set aside

	receivers []*modelReceiver
}

type modelState struct {
	rec      *record
	revision uint64
}

type modelMessage struct {
	chunk     *chunk.Chunk
	delivered int // to which consumer
	acked     bool
}

type modelReceiver struct {
	name   string
	life   int
	frozen int // steps

	// On disk.
	file   []byte   // bytes
	at     []uint64 // and their positions
	synced int
	state  local
	asides []modelAside
	backs  []*modelBack

	// In memory; working: a term runs.
	working  bool
	consumer int
	cur      cursor
	rec      record
	rev      uint64
	heard    chunk.Place
	from     uint64
	offset   int64
	before   *chunk.Digest
	acks     []*modelMessage
	step     string // of the commit under way: "", prepared, sent, landed
	mark     mark
	pending  record
	pendAcks []*modelMessage
}

func newModel(seed uint64) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 7)), lossless: true, revision: 1000}
	m.lossy = m.rng.IntN(2) == 0
	m.data = make([]byte, modelLength)
	m.digests = []chunk.Digest{0}
	for i := range m.data {
		m.data[i] = byte(m.rng.Uint32())
		m.digests = append(m.digests, m.digests[i].Update(m.data[i:i+1]))
	}
	for i := range 3 {
		m.receivers = append(m.receivers, &modelReceiver{name: fmt.Sprintf("r%d", i+1)})
	}
	return m
}

func (m *model) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
		m.say("BROKEN: %s", m.broken)
	}
}

// publish sends the node's next chunk, or loses it.
func (m *model) publish(lose bool) {
	if m.sent >= modelLength {
		return
	}
	n := min(1+m.rng.Uint64N(4), modelLength-m.sent)
	c := &chunk.Chunk{Epoch: 1, Position: m.sent, Length: n, Data: m.data[m.sent : m.sent+n], Digest: m.digests[m.sent], File: "f", Offset: int64(m.sent)}
	c.Checksum = chunk.Sum(c.Data)
	m.sent += n
	if lose {
		m.say("node: %d-%d is lost", c.Position, c.End())
		return
	}
	m.say("node: %d-%d", c.Position, c.End())
	m.stream = append(m.stream, &modelMessage{chunk: c})
}

// goBack is what a resend, or the next sync, makes the node do.
func (m *model) goBack(to uint64) {
	if to = max(to, m.confirmed); to < m.sent {
		m.say("node: back to %d", to)
		m.sent = to
	}
}

func (m *model) tell(place chunk.Place) {
	if place.Epoch == 1 && place.Position > m.confirmed {
		if m.rng.IntN(4) == 0 {
			return // lost
		}
		if place.Digest != m.digests[place.Position] {
			m.fail("told a digest that isn't the node's at %d", place.Position)
		}
		m.say("node: told %d", place.Position)
		m.confirmed = place.Position
		m.sent = max(m.sent, m.confirmed)
	}
}

// cas is the bucket.
func (m *model) cas(expected uint64, value record) (uint64, bool) {
	if has := m.recRevision(); has != expected {
		return 0, false
	}
	m.history = append(m.history, modelState{m.rec, m.revision})
	m.revision++
	v := clone(&value)
	m.rec = &v
	return m.revision, true
}

func (m *model) recRevision() uint64 {
	if m.rec == nil {
		return 0
	}
	return m.revision
}

func clone(r *record) record {
	b, err := r.bytes()
	if err != nil {
		panic(err)
	}
	c, err := parseRecord(b)
	if err != nil {
		panic(err)
	}
	return *c
}

// land lets one update that is under way arrive. Its answer may be lost.
func (m *model) land() {
	if len(m.updates) == 0 {
		return
	}
	i := m.rng.IntN(len(m.updates))
	u := m.updates[i]
	m.updates = slices.Delete(m.updates, i, i+1)
	rev, ok := m.cas(u.expected, u.value)
	r := m.receivers[u.from]
	m.say("%s: update to %d lands %t", r.name, u.value.Place.Position, ok)
	if r.life != u.life || !r.working || r.step != "sent" || m.rng.IntN(5) == 0 {
		return // nobody hears the answer; who waits for it asks again
	}
	if ok {
		r.rev, r.step = rev, "landed"
	} else {
		r.endTerm(m, "wrong revision")
	}
}

func (r *modelReceiver) endTerm(m *model, why string) {
	m.say("%s: term ends, %s", r.name, why)
	r.working, r.step, r.acks, r.pendAcks = false, "", nil, nil
	r.life++
}

// modelKey is the log's.
const modelKey = "node.log"

// modelBucket is the model's bucket as a begin sees it: between what it reads and what it writes, an update may land.
type modelBucket struct{ m *model }

func (b modelBucket) Get(context.Context, string) ([]byte, uint64, error) {
	if b.m.rec == nil {
		return nil, 0, broker.ErrNotFound
	}
	value, err := b.m.rec.bytes()
	revision := b.m.revision
	if b.m.rng.IntN(3) == 0 {
		b.m.land()
	}
	return value, revision, err
}

func (b modelBucket) Update(_ string, value []byte, expected uint64, done func(uint64, error)) {
	rec, err := parseRecord(value)
	if err != nil {
		done(0, err)
		return
	}
	revision, ok := b.m.cas(expected, *rec)
	if !ok {
		err = broker.ErrWrongRevision
	}
	done(revision, err)
}

// begin is bringTogether, of an owner or of one who only settles; what decides is the product's own.
func (r *modelReceiver) begin(m *model, i int, owner bool) {
	r.endTerm(m, fmt.Sprintf("begins, owner %t", owner))
	if owner {
		m.consumer++ // the others' are deleted
		r.consumer = m.consumer
	}
	p := &partition{r: &Receiver{config: Config{Name: r.name}, logger: slog.New(slog.DiscardHandler), now: func() time.Time { return time.Time{} }},
		term: fmt.Sprintf("%s/%d", r.name, r.life), known: make(map[string]broker.Record)}
	bucket := modelBucket{m}
	if value, revision, err := bucket.Get(context.Background(), modelKey); err == nil {
		p.known[modelKey] = broker.Record{Key: modelKey, Value: value, Revision: revision}
	}
	l := &log{key: modelKey, local: r.state}
	whole := r.state.Prepared == nil || int64(len(r.file)) >= r.state.Prepared.Size
	if err := p.reconcile(context.Background(), bucket, l, whole, make(map[string]*closed), owner); err != nil {
		m.fail("%s: %v", r.name, err)
		return
	}
	r.state, r.rec, r.rev, r.cur, r.heard = l.local, l.rec, l.rev, l.cur, l.heard
	lo := &r.state
	prepared := lo.Prepared
	lo.Prepared = nil
	if size := int(lo.Committed.Size); len(r.file) < size {
		m.fail("%s: %d bytes are committed, %d are there", r.name, size, len(r.file))
		return
	} else if len(r.file) > size {
		m.say("%s: cuts %d back to %d", r.name, len(r.file), size)
		if prepared != nil && prepared.Size > int64(size) {
			r.setAside(prepared, size)
		}
		r.file, r.at, r.synced = r.file[:size], r.at[:size], size
	}
	r.from, r.offset, r.before = lo.Committed.From, lo.Committed.Offset, lo.Committed.Before
	if lo.Committed.File == "" || lo.Committed.From == lo.Committed.Place.Position || !same(&r.cur.Place, &lo.Committed.Place) {
		r.from = unplaced
	}
	r.working = owner
	if owner {
		m.say("%s: works from %d", r.name, r.cur.Position)
		m.tell(r.learnt())
	}
}

func (r *modelReceiver) learnt() chunk.Place {
	if further(&r.heard, &r.state.Committed.Place) {
		return r.heard
	}
	return r.state.Committed.Place
}

// deliver gives a receiver the next message, if its consumer is still there.
func (r *modelReceiver) deliver(m *model) {
	if !r.working || r.consumer != m.consumer {
		return
	}
	for _, msg := range m.stream {
		if msg.acked || msg.delivered == r.consumer {
			continue
		}
		msg.delivered = r.consumer
		v, skip := r.cur.judge(msg.chunk)
		m.say("%s: %d-%d is %s", r.name, msg.chunk.Position, msg.chunk.End(), v)
		switch v {
		case take:
			if r.from == unplaced {
				digest := r.cur.Digest
				r.from, r.offset, r.before = r.cur.Position, int64(len(r.file)), &digest
			}
			for p := msg.chunk.Position + skip; p < msg.chunk.End(); p++ {
				r.file, r.at = append(r.file, m.data[p]), append(r.at, p)
			}
			r.cur.advance(msg.chunk, skip)
		case hole:
			if m.rec != nil && further(&m.rec.Place, &r.cur.Place) && r.step == "" { // read again
				r.endTerm(m, "behind")
				return
			}
			m.goBack(r.cur.Position)
		case fork, stale:
			m.fail("%s: %s", r.name, v)
		}
		r.acks = append(r.acks, msg)
		return
	}
}

// commit takes the next step of a commit.
func (r *modelReceiver) commit(m *model, i int) {
	if !r.working {
		return
	}
	switch r.step {
	case "":
		m1 := mark{Place: r.cur.Place, From: r.from, Offset: r.offset, Before: r.before, Size: int64(len(r.file)), Revision: r.rev,
			Base: base{r.rec.Place.Epoch, r.rec.Place.Position, r.rec.Place.Digest}}
		if len(r.file) > 0 {
			m1.File = "f"
		}
		if r.from == unplaced {
			m1.From, m1.Offset, m1.Before = m1.Place.Position, m1.Size, nil
		}
		if same(&m1.Place, &r.state.Committed.Place) && len(r.acks) == 0 {
			return
		}
		r.synced = len(r.file)
		r.mark = m1
		r.state.Prepared = &m1
		r.pending = clone(&r.rec)
		r.pending.Place = m1.Place
		if l := r.learnt(); l.Epoch != 0 {
			r.pending.Learnt = &l
		}
		r.pending.extend(r.name, &m1, time.Time{})
		r.state.Ranges = r.pending.foreign(r.name)
		r.pendAcks, r.acks = r.acks, nil
		r.step = "prepared"
		m.say("%s: prepared %d", r.name, m1.Place.Position)
	case "prepared", "sent":
		if r.step == "sent" { // no answer: it looks whether it has landed, and sends it again
			if m.rec != nil && m.rec.Writer == r.pending.Writer && r.pending.Writer != "" && m.rec.Commit == r.pending.Commit {
				r.rev, r.step = m.revision, "landed"
				return
			}
		}
		r.pending.Writer, r.pending.Commit = r.name+strconv.Itoa(r.life), uint64(len(m.trace))
		m.updates = append(m.updates, modelUpdate{from: i, life: r.life, expected: r.rev, value: clone(&r.pending)})
		r.step = "sent"
	case "landed":
		r.rec = r.pending
		r.state.commit(&r.mark, "k", map[string]*closed{})
		r.step = "committed"
		m.say("%s: committed %d", r.name, r.mark.Place.Position)
	case "committed":
		m.tell(r.state.Committed.Place)
		r.step = "told"
	case "told":
		for _, msg := range r.pendAcks {
			if r.consumer == m.consumer { // an ack of a consumer that is gone counts for nothing
				msg.acked = true
			}
		}
		r.pendAcks, r.step = nil, ""
	}
}

// crash takes what was in memory, and with a power failure what was not synced.
func (r *modelReceiver) crash(m *model, power bool) {
	r.endTerm(m, fmt.Sprintf("crash, power %t", power))
	if power && len(r.file) > r.synced {
		n := r.synced + m.rng.IntN(len(r.file)-r.synced+1)
		r.file, r.at = r.file[:n], r.at[:n]
	}
}

// breakAll ends all connections: what is under way is gone, and every receiver begins anew.
func (m *model) breakAll() {
	m.updates = nil
	for _, r := range m.receivers {
		r.endTerm(m, "connection lost")
	}
}

func (m *model) turn(faults bool) {
	i := m.rng.IntN(len(m.receivers))
	r := m.receivers[i]
	if r.frozen > 0 {
		r.frozen--
		m.land()
		return
	}
	what := m.rng.IntN(100)
	if !faults && what >= 80 {
		what = m.rng.IntN(80)
	}
	switch {
	case what < 15:
		m.publish(faults && m.rng.IntN(6) == 0)
	case what < 40:
		r.deliver(m)
	case what < 65:
		r.commit(m, i)
	case what < 78:
		m.land()
	case what < 80:
		m.goBack(m.confirmed) // a sync says that something is missing
	case what < 86:
		r.begin(m, i, true)
	case what < 89:
		r.begin(m, i, false)
	case what < 90:
		r.putBack(m, false)
	case what < 92:
		r.frozen = 1 + m.rng.IntN(30)
	case what < 95:
		r.crash(m, m.rng.IntN(2) == 0)
	case !m.lossy:
		r.deliver(m)
	case what < 96 && len(m.history) > 0:
		back := 1 + m.rng.IntN(min(3, len(m.history)))
		old := m.history[len(m.history)-back]
		m.history = m.history[:len(m.history)-back]
		m.rec, m.revision, m.lossless = old.rec, old.revision, false
		m.say("POWER FAILURE of the bucket: back to revision %d", m.revision)
		m.breakAll()
	case what < 97:
		m.say("WIPE")
		m.rec, m.history, m.lossless, m.stream = nil, nil, false, nil
		m.revision += 1 << 20
		m.breakAll()
	}
	m.check()
}

// check: what the node was told to forget lies somewhere.
func (m *model) check() {
	m.sweep()
	for p := uint64(0); p < m.confirmed; p++ {
		if !slices.ContainsFunc(m.receivers, func(r *modelReceiver) bool { return slices.Contains(r.at, p) || r.isBack(p) }) && !m.isAside(p) {
			m.fail("position %d is confirmed, and in no file", p)
			return
		}
	}
}

// quiesce lets one receiver work without faults until all is confirmed, and the others settle.
func (m *model) quiesce() {
	for _, r := range m.receivers {
		r.frozen = 0
	}
	for i, r := range m.receivers {
		r.begin(m, i, false)
	}
	last := m.rng.IntN(len(m.receivers))
	for n := 0; n < 4000 && m.confirmed < modelLength && m.broken == ""; n++ {
		if r := m.receivers[last]; !r.working {
			r.begin(m, last, true)
		}
		m.turn(false)
	}
	if m.confirmed < modelLength {
		m.fail("%d of %d confirmed, and no fault is left", m.confirmed, modelLength)
	}
	for len(m.updates) > 0 {
		m.land()
	}
	for i, r := range m.receivers {
		r.begin(m, i, false)
	}
	for _, r := range m.receivers {
		r.putBack(m, true)
	}
	m.sweep()
}

func (m *model) verdict() {
	have := make(map[uint64]bool)
	for _, r := range m.receivers {
		for i, p := range r.at {
			if i > 0 && p <= r.at[i-1] {
				m.fail("%s: position %d stands behind %d", r.name, p, r.at[i-1])
			}
			if r.file[i] != m.data[p] {
				m.fail("%s: wrong byte at position %d", r.name, p)
			}
			have[p] = true
		}
	}
	for _, r := range m.receivers {
		for _, b := range r.backs {
			if m.lossless {
				m.fail("%s: %d-%d was put back, and the broker has lost nothing", r.name, b.From, b.To)
			}
			for p := b.From; p < b.To && b.Done; p++ {
				have[p] = true
			}
		}
	}
	for p := range uint64(modelLength) {
		if !have[p] {
			m.fail("position %d is in no file, only set aside: %t", p, m.isAside(p))
		}
	}
	if !m.lossless || m.rec == nil {
		return
	}
	owner := make(map[uint64]string)
	for _, s := range m.rec.Ranges {
		i := slices.IndexFunc(m.receivers, func(r *modelReceiver) bool { return r.name == s.Receiver })
		for p := s.From; p < s.To; p++ {
			if owner[p] != "" {
				m.fail("position %d is %s's and %s's", p, owner[p], s.Receiver)
			}
			owner[p] = s.Receiver
			if at := s.Offset + int64(p-s.From); at >= int64(len(m.receivers[i].at)) || m.receivers[i].at[at] != p {
				m.fail("position %d isn't in %s's file where the record says", p, s.Receiver)
			}
		}
	}
	total := 0
	for _, r := range m.receivers {
		total += len(r.at)
	}
	if total != modelLength && m.broken == "" {
		m.fail("%d bytes lie in files for %d positions", total, modelLength)
	}
}

// run goes through one schedule and gives what broke.
func (m *model) run(steps int) string {
	for n := 0; n < steps && m.broken == ""; n++ {
		m.turn(true)
	}
	if m.broken == "" {
		m.quiesce()
	}
	if m.broken == "" {
		m.verdict()
	}
	return m.broken
}

// manyOf is how many schedules a test goes through: some by default, for each run of all tests must stay short.
func manyOf(t *testing.T, def int) int {
	t.Helper()
	v := os.Getenv("LOGFORWARD_SCHEDULES")
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestModelOfOwnershipAndCommit(t *testing.T) {
	t.Parallel()
	seed, schedules := testSeed(t), manyOf(t, 1000)
	if os.Getenv("LOGFORWARD_SEED") != "" {
		schedules = 1
	}
	lossless, aside, back := 0, 0, 0
	for i := range schedules {
		m := newModel(seed + uint64(i))
		if broken := m.run(50 + int(m.rng.Uint64N(400))); broken != "" {
			for _, line := range m.trace[max(0, len(m.trace)-120):] {
				t.Log(line)
			}
			t.Fatalf("LOGFORWARD_SEED=%d: %s", seed+uint64(i), broken)
		}
		if m.lossless {
			lossless++
		}
		if m.aside {
			t.Logf("LOGFORWARD_SEED=%d: what was confirmed lay only where it was set aside, until it was put back", seed+uint64(i))
			aside++
		}
		if slices.ContainsFunc(m.receivers, func(r *modelReceiver) bool { return len(r.backs) > 0 }) {
			back++
		}
	}
	t.Logf("%d schedules, %d of them without a loss of the broker, %d with something that was only set aside, %d with something that was put back", schedules, lossless, aside, back)
	if aside > 2+schedules/5000 {
		t.Errorf("in %d of %d schedules something was only set aside", aside, schedules)
	}
}
