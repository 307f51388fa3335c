package receive

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// member is one receiver of a team under faults: it is killed at a random operation, or stands still.
type member struct {
	*site
	mu     sync.Mutex
	left   int // operations until it is killed; negative: it isn't
	killed chan struct{}
	still  chan struct{} // closed when it may go on; nil: it does
}

func (m *member) check(op string, done bool) error {
	m.mu.Lock()
	still := m.still
	m.mu.Unlock()
	if still != nil {
		<-still
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errStopped
	}
	if m.left > 0 {
		if m.left--; m.left == 0 {
			close(m.killed)
			return errStopped
		}
	}
	return nil
}

func (m *member) begin(t *testing.T, left int) {
	m.mu.Lock()
	m.left, m.killed = left, make(chan struct{})
	m.mu.Unlock()
	m.config.fault = m.check
	m.startReceiverOrCrash()
}

func (m *member) end(t *testing.T) {
	if err := m.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
}

// freeze lets it stand still, in every operation and at heart, as SIGSTOP does.
func (m *member) freeze(d time.Duration) {
	still := make(chan struct{})
	m.mu.Lock()
	m.still = still
	m.mu.Unlock()
	time.Sleep(d) // how long it stands still
	m.mu.Lock()
	m.still = nil
	m.mu.Unlock()
	close(still)
}

func randomSeconds(t *testing.T, def float64) time.Duration {
	if v := os.Getenv("LOGFORWARD_RANDOM_SECONDS"); v != "" {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			t.Fatal(err)
		}
		def = n
	}
	return time.Duration(def * float64(time.Second))
}

// TestRandomFaultsOfATeam kills, freezes, restarts and cuts off three receivers at random operations, and takes the broker's
// buckets away or back in time, while nodes send with losses, duplicates and repetitions. In the end the central bytes of all receivers
// together are the nodes', and the records name one committer for each byte.
func TestRandomFaultsOfATeam(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %t", shared), func(t *testing.T) {
			t.Parallel()
			randomTeam(t, testSeed(t), shared)
		})
	}
}

func randomTeam(t *testing.T, seed uint64, shared bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSite(t, func(c *Config) {
		c.RotateSize, c.Compress, c.CommitInterval, c.MaxOpenFiles = 5000, "gzip", 10*time.Millisecond, 64
		c.LeaseInterval, c.LeaseTimeout = 30*time.Millisecond, 300*time.Millisecond
	})
	const partitions = 5
	s.setup(partitions)
	team := []*member{{site: s}, {site: s.beside("r2", shared)}, {site: s.beside("r3", shared)}}
	var logs []*sender
	for i := range 8 {
		identity := fmt.Sprintf("web%d", i)
		var own []*sender
		for j := range 2 {
			x := &sender{identity: identity, log: fmt.Sprintf("log%d", j), epoch: 1, digests: map[uint64]chunk.Digest{0: 0}}
			if j == 0 {
				x.sealer = newNodeSeals(identity, x.log, 1500)
			}
			own = append(own, x)
		}
		s.listenFor(identity, own)
		logs = append(logs, own...)
	}
	for _, m := range team {
		m.begin(t, -1)
	}
	finish, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		nodeLoop(s, logs, rand.New(rand.NewPCG(seed, 2)), finish)
	}()
	done := make(map[string]int)
	lossless := true // the broker has kept what it acknowledged
	for end := time.Now().Add(randomSeconds(t, 6)); time.Now().Before(end); {
		m := team[rng.IntN(len(team))]
		what := rng.IntN(20)
		switch {
		case what < 7:
			done["kill"]++
			m.mu.Lock()
			m.left = 1 + rng.IntN(1<<(2+rng.IntN(7)))
			killed := m.killed
			m.mu.Unlock()
			select {
			case <-killed:
			case <-time.After(300 * time.Millisecond):
			}
			m.end(t)
			sleepFor(rng, 500)
			m.begin(t, -1)
		case what < 10:
			done["restart"]++
			m.end(t)
			m.begin(t, -1)
		case what < 14:
			done["freeze"]++
			m.freeze(time.Duration(rng.IntN(900)) * time.Millisecond)
		case what < 17:
			done["cut off"]++
			if m.r != nil {
				m.must(m.r.nc.ForceReconnect())
			}
		case what < 19:
			done["back in time"]++
			lossless = false
			takeBack(s, team, rng, logs)
		default:
			done["wipe"]++
			lossless = false
			wipeBuckets(s)
		}
		sleepFor(rng, 200)
	}
	close(finish)
	<-stopped
	t.Logf("%v", done)
	for _, m := range team {
		m.end(t)
		m.begin(t, -1) // so that each has cut back what isn't committed
	}
	s.settled(team)
	for _, x := range logs {
		x.mu.Lock()
		if x.wrong != nil {
			t.Error(x.wrong)
		}
		if x.confirmed != x.end() {
			t.Errorf("%s/%s: confirmed %d of %d", x.identity, x.log, x.confirmed, x.end())
		}
		want := x.written()
		x.mu.Unlock()
		var got bytes.Buffer
		if missing, err := Cat(&got, s.outputs(), x.identity, x.log); err != nil || missing > 0 {
			t.Errorf("%s/%s: %d files missing, %v", x.identity, x.log, missing, err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s/%s: %d bytes, want %d, differ at %d", x.identity, x.log, got.Len(), len(want), differ(got.Bytes(), want))
			for _, out := range slices.Compact(s.outputs()) {
				t.Logf("%s", tree(filepath.Join(out, x.identity)))
			}
		}
		n := &node{s: s, identity: x.identity, log: x.log, sealer: x.sealer}
		n.verify(Intact)
		if x.sealer != nil {
			if v := n.sealed(); v.Seals.Sealed != int64(len(want)) {
				t.Errorf("%s/%s: %+v", x.identity, x.log, v.Seals)
			}
		}
		if value, _, err := s.records().Get(asking(t), key(x.identity, x.log)); err != nil {
			t.Error(err)
		} else if rec, err := parseRecord(value); err != nil {
			t.Error(err)
		} else if lossless {
			checkRanges(t, rec)
		}
	}
}

func sleepFor(rng *rand.Rand, most int) { time.Sleep(time.Duration(rng.IntN(most)) * time.Millisecond) }

// settled waits until all receivers have brought their state together with the bucket.
func (s *site) settled(team []*member) {
	for _, m := range team {
		eventually(s.t, "settle", func() (bool, string) {
			m.r.mu.Lock()
			defer m.r.mu.Unlock()
			return m.r.complete && len(m.r.begun) == s.partitions && len(m.r.terms) >= 0, fmt.Sprint(m.r.begun, m.r.terms)
		})
	}
}

// takeBack has a power failure take the last update of a log's record, and breaks all connections, as it does.
func takeBack(s *site, team []*member, rng *rand.Rand, logs []*sender) {
	x := logs[rng.IntN(len(logs))]
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	records, err := broker.OpenRecords(asking(s.t), js, s.pub, broker.Positions)
	if err != nil {
		return // just wiped
	}
	old, _, err := records.Get(asking(s.t), key(x.identity, x.log))
	if err != nil {
		return
	}
	sleepFor(rng, 100)
	_, rev, err := records.Get(asking(s.t), key(x.identity, x.log))
	if err != nil {
		return
	}
	done := make(chan error, 1)
	records.Update(key(x.identity, x.log), old, rev, func(_ uint64, err error) { done <- err })
	<-done // who was faster is not taken back
	for _, m := range team {
		if m.r != nil {
			_ = m.r.nc.ForceReconnect()
		}
	}
}

// wipeBuckets deletes the positions and leases of the running broker.
func wipeBuckets(s *site) {
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	for _, name := range []string{broker.Positions, broker.Leases, broker.Bucket} {
		if err := js.DeleteStream(asking(s.t), "KV_"+name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			s.t.Error(err)
		}
	}
}
