package receive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"logforward/internal/chunk"
)

// More logs than descriptors: the least recently used are closed, also between append and sync.
func TestManyLogsWithFewDescriptors(t *testing.T) {
	t.Parallel()
	for _, syncfs := range []bool{true, false} {
		t.Run(fmt.Sprintf("syncfs %t", syncfs), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := make(map[string]int)
			s := newSite(t, func(c *Config) {
				c.MaxOpenFiles, c.CommitInterval = 1, 100*time.Millisecond
				c.fault = func(op string, done bool) error { mu.Lock(); defer mu.Unlock(); seen[op]++; return nil }
			})
			s.startReceiver()
			whole := s.r.syncfs != nil
			if !syncfs && whole { // as on a kernel before 5.8
				s.must(s.stopReceiver())
				c := s.config
				c.Broker.Server = s.server
				s.r = New(c)
				s.must(s.r.Open(t.Context()))
				s.r.syncfs.Close()
				s.r.syncfs = nil
				s.run()
			}
			var nodes []*node
			for i := range 300 {
				nodes = append(nodes, s.node(fmt.Sprintf("web%d", i/10), fmt.Sprintf("log%d", i%10)))
			}
			for range 3 {
				for _, n := range nodes {
					n.send(n.make(n.log + " line\n"))
				}
			}
			for _, n := range nodes {
				n.waitConfirmed()
				n.same()
			}
			mu.Lock()
			defer mu.Unlock()
			if (seen[opSyncFS] > 0) != (syncfs && whole) || (seen[opSync] > 100) == (syncfs && whole) {
				t.Errorf("operations %v", seen)
			}
		})
	}
}

func TestMaxLogsOfAnIdentity(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.MaxLogs = 3 })
	s.startReceiver()
	var nodes []*node
	for i := range 5 {
		nodes = append(nodes, s.node("web1", fmt.Sprint(i)))
		nodes[i].send(nodes[i].make("x\n"))
	}
	other := s.node("web2", "syslog")
	other.send(other.make("x\n"))
	other.waitConfirmed()
	for _, n := range nodes[:3] {
		n.waitConfirmed()
		n.same()
	}
	eventually(t, "put the others away", func() (bool, string) {
		kept := quarantined(t, s)
		return len(kept) == 2 && strings.Contains(kept[0], "max_logs_per_identity"), fmt.Sprint(kept)
	})
	// What is known goes on, also after a restart.
	s.must(s.stopReceiver())
	s.startReceiver()
	for _, n := range nodes[:3] {
		n.send(n.make("y\n"))
		n.waitConfirmed()
	}
	if st := s.r.Status(t.Context()); len(st.Logs) != 4 {
		t.Errorf("%d logs", len(st.Logs))
	}
}

func quarantined(t *testing.T, s *site) (texts []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.config.State, "quarantine", "*"))
	s.must(err)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		s.must(err)
		texts = append(texts, string(b))
	}
	return texts
}

func TestQuarantineKeepsTheMessageAndBlocksNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	evil := "an evil payload\x00\nwith lines\n"
	n.raw("logs.0.web1.syslog", map[string][]string{"Lf-Epoch": {"none\r\n\x1b[2J"[:4]}, "X": {"1", "2"}}, []byte(evil))
	n.raw("logs.0.web1.=2E=2E", n.make("y\n").Header(chunk.Plain), []byte("y\n"))
	n.position, n.digest, n.written = n.position-2, chunk.Sum([]byte("before\n")), n.written[:len(n.written)-2]
	for i := range 40 { // so many that they are synced at once
		n.raw("logs.0.web1.syslog", nil, fmt.Appendf(nil, "rubbish %d", i))
	}
	n.send(n.make("after\n"))
	n.waitConfirmed()
	n.same()
	var kept []string
	eventually(t, "quarantine", func() (bool, string) {
		kept = quarantined(t, s)
		return len(kept) == 42, fmt.Sprint(len(kept))
	})
	all := strings.Join(kept, "")
	for _, want := range []string{"Subject: \"logs.0.web1.syslog\"\n", "Lf-Epoch: \"none\"\n", "X: \"1\"\nX: \"2\"\n", "\n\n" + evil, "=2E=2E", "rubbish 39", "Stream: LOGFORWARD_0\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q isn't there", want)
		}
	}
	eventually(t, "terminate them", func() (bool, string) { left := s.left(0); return left == 0, fmt.Sprint(left) })
}

func TestQuarantineHasALimit(t *testing.T) {
	t.Parallel()
	var c clock
	s := newSite(t, func(config *Config) { config.QuarantineSize, config.Now = 3000, c.now })
	s.startReceiver()
	n := s.node("web1", "syslog")
	bad := func(count int) {
		for range count {
			n.raw("logs.0.web1.syslog", nil, bytes.Repeat([]byte("x"), 500))
		}
		n.send(n.make("after\n"))
		n.waitConfirmed()
		eventually(t, "terminate them", func() (bool, string) { left := s.left(0); return left == 0, fmt.Sprint(left) })
	}
	bad(20)
	kept := len(quarantined(t, s))
	if kept < 3 || kept > 5 {
		t.Fatalf("%d kept", kept)
	}
	s.must(s.stopReceiver()) // what is there counts after a restart, too
	s.startReceiver()
	bad(3)
	if got := len(quarantined(t, s)); got != kept {
		t.Errorf("%d kept, and %d after a restart", kept, got)
	}
	s.must(os.RemoveAll(filepath.Join(s.config.State, "quarantine")))
	c.forward(2 * measureEvery)
	bad(1)
	if got := len(quarantined(t, s)); got != 1 {
		t.Errorf("%d kept after it was cleared", got)
	}
}

// left is how many messages a partition's stream holds.
func (s *site) left(partition int) uint64 {
	s.t.Helper()
	info := s.stream(partition)
	return info.State.Msgs
}

func TestHostileChunks(t *testing.T) {
	t.Parallel()
	bomb, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, chunk.MaxLength)
	packed := bomb.EncodeAll(zeros, nil)
	s := newSite(t, func(c *Config) { c.FetchBytes = 1 << 20 })
	s.startReceiver()
	victim := s.node("web1", "syslog")
	evil := s.node("evil", "syslog")
	send := func(log string, c *chunk.Chunk, encoding chunk.Encoding, payload []byte) {
		evil.raw("logs.0.evil."+chunk.Token(log), c.Header(encoding), payload)
	}
	x := chunk.Sum([]byte("x"))
	top := uint64(chunk.MaxPosition)
	send("epoch", &chunk.Chunk{Epoch: top, Length: 1, Checksum: x, File: "f"}, chunk.Plain, []byte("x"))
	send("epoch", &chunk.Chunk{Epoch: top, Predecessor: top - 1, Position: 1, Length: 1, Checksum: x, Digest: x, File: "f"}, chunk.Plain, []byte("x"))
	send("gap", &chunk.Chunk{Epoch: 1, Length: 1 << 62, File: "f", Gap: &chunk.Gap{Cause: "%s%n", Bytes: -1}}, chunk.Plain, nil)
	send("gap", &chunk.Chunk{Epoch: 1, Position: 1 << 62, Length: 1<<62 - 1, Digest: chunk.AfterGap(1 << 62), File: "f", Gap: &chunk.Gap{Cause: "x", Time: time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -23*3600))}}, chunk.Plain, nil)
	send("gap", &chunk.Chunk{Epoch: 1, Position: top, Length: 1, Digest: chunk.AfterGap(top), File: "f", Checksum: x}, chunk.Plain, []byte("x"))
	send("round", &chunk.Chunk{Epoch: 1, Position: 5, Length: 1, Checksum: x, Round: ^uint64(0), File: "f"}, chunk.Plain, []byte("x"))
	send("offset", &chunk.Chunk{Epoch: 1, Length: 1, Checksum: x, File: "f", Offset: chunk.MaxPosition - 1}, chunk.Plain, []byte("x"))
	for range 50 { // megabytes of zeros in each few hundred bytes, and a log's name is being found
		send("bomb", &chunk.Chunk{Epoch: 1, Length: uint64(len(zeros)), Checksum: chunk.Sum(zeros), File: "f"}, chunk.Zstd, packed)
	}
	// The wrong partition's stream is still the identity's log; the longest names are no trouble.
	long := strings.Repeat("l", chunk.MaxToken)
	send(long, &chunk.Chunk{Epoch: 1, Length: 1, Checksum: x, File: "f"}, chunk.Plain, []byte("x"))
	victim.send(victim.make("unharmed\n"))
	victim.waitConfirmed()
	victim.same()
	eventually(t, "take them all", func() (bool, string) { left := s.left(0); return left == 0, fmt.Sprint(left) })
	for log, want := range map[string]int{"epoch": 2, "gap": 0, "round": 0, "offset": 1, "bomb": len(zeros)} {
		var b bytes.Buffer
		if _, err := Cat(&b, []string{s.config.Output}, "evil", log); err != nil && !errors.Is(err, ErrNoLedger) || b.Len() != want {
			t.Errorf("%s: %d bytes, %v", log, b.Len(), err)
		}
	}
	s.must(s.stopReceiver()) // and it can be read again
	s.startReceiver()
	victim.send(victim.make("still\n"))
	victim.waitConfirmed()
	victim.same()
}

// A message that is larger than what is fetched at a time comes all the same.
func TestMessageLargerThanWhatIsFetched(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.FetchBytes = 1 << 20 })
	s.stopBroker()
	s.payload = 8 << 20
	s.startBroker()
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make(strings.Repeat("a line that is one of many\n", 5<<20/27)))
	n.waitConfirmed()
	n.same()
}

// Identity and log at their longest go through every path that names a file after them, a cut tail's too.
func TestLongestNamesGoThroughACrash(t *testing.T) {
	t.Parallel()
	f := &fault{op: opPrepare, done: true, n: 1, err: errStopped, hit: make(chan struct{})}
	s := newSite(t, func(c *Config) { c.fault = f.check })
	s.startReceiver()
	n := s.node(strings.Repeat("i", chunk.MaxToken), strings.Repeat("l", chunk.MaxToken))
	n.send(n.make("committed\n"))
	n.waitConfirmed()
	n.send(n.make("prepared\n"))
	s.crashed(f)
	s.startReceiver()
	n.waitConfirmed()
	n.same()
	eventually(t, "drop what was set aside", func() (bool, string) { return len(cutFiles(t, s)) == 0, "" })
}

// What nobody understands goes to the loop of the partition whose stream it lies in, and so does what is its own; a
// chunk of another partition's identity doesn't.
func TestRubbishStaysInItsPartition(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(2)
	s.startReceiver()
	right := s.node("web1", "syslog")
	p := chunk.Partition("web1", 2)
	c := right.make("in the wrong stream\n")
	right.raw(chunk.Subject{Prefix: "logs", Partition: 1 - p, Identity: "web1", Log: "syslog"}.String(), c.Header(chunk.Plain), c.Data)
	right.raw(fmt.Sprintf("logs.%d.web1.syslog", 1-p), nil, []byte("rubbish"))
	right.waitConfirmed()
	right.same()
	if n := counted(t, s.r.metrics.moved); n != 1 {
		t.Errorf("%v chunks moved, want 1", n)
	}
	eventually(t, "keep the rubbish", func() (bool, string) {
		n := counted(t, s.r.metrics.quarantined)
		return n == 1 && s.left(0)+s.left(1) == 0, fmt.Sprint(n)
	})
}

// counted is a counter's value.
func counted(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	return gathered(t, c).GetCounter().GetValue()
}
