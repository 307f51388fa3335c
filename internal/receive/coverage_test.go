package receive

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// TestCoverageIsASetOfPositions compares with positions that are counted one by one.
func TestCoverageIsASetOfPositions(t *testing.T) {
	t.Parallel()
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	const most = 60
	for range 3000 {
		var ranges []covered
		var have [2][most]bool
		some := [2]taken{}
		for range rng.IntN(12) {
			epoch := rng.IntN(2)
			from := rng.IntN(most)
			to := from + rng.IntN(most-from)
			var free []int
			some[epoch].add(uint64(from), uint64(to), func(a, b uint64) {
				for p := a; p < b; p++ {
					free = append(free, int(p))
				}
			})
			var want []int
			for p := from; p < to; p++ {
				if !have[epoch][p] {
					want = append(want, p)
				}
				have[epoch][p] = true
			}
			if slices.Sort(free); !slices.Equal(free, want) {
				t.Fatalf("%d-%d of %v: free %v, want %v", from, to, ranges, free, want)
			}
			ranges = append(ranges, covered{uint64(epoch), uint64(from), uint64(to)})
		}
		c := newCoverage(slices.Clone(ranges))
		for range 10 {
			epoch := rng.IntN(2)
			from := rng.IntN(most)
			to := from + rng.IntN(most-from)
			var want []int
			for p := from; p < to; p++ {
				if !have[epoch][p] {
					want = append(want, p)
				}
			}
			var got []int
			for _, x := range c.without(uint64(epoch), uint64(from), uint64(to)) {
				for p := x.from; p < x.to; p++ {
					got = append(got, int(p))
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("without %d-%d of %v: %v, want %v", from, to, ranges, got, want)
			}
			end := 0
			if have[epoch][from] {
				for end = from; end < most && have[epoch][end]; end++ {
				}
			}
			if got := c.end(uint64(epoch), uint64(from)); got != uint64(end) {
				t.Fatalf("end of %d in %v: %d, want %d", from, ranges, got, end)
			}
		}
	}
}

// gapped makes a log with many gaps in a closed, compressed file: a byte, a gap, and so on.
func gapped(t testing.TB, gaps int) (output string) {
	t.Helper()
	output = t.TempDir()
	dir := filepath.Join(output, "web1")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var ledger, data []byte
	line := func(e Entry) {
		b, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		ledger = append(ledger, b...)
	}
	var digest chunk.Digest
	start := digest
	line(Entry{Time: time.Now(), Event: EventRange, Epoch: 1, File: "web1/app.log", Digest: &start})
	at := uint64(0)
	for range gaps {
		data = append(data, 'x')
		before := digest.Update([]byte("x"))
		lost := int64(1)
		line(Entry{Time: time.Now(), Event: EventGap, Epoch: 1, From: at + 1, To: at + 2, File: "web1/app.log", Offset: int64(len(data)), Bytes: &lost, Exact: true, Digest: &before})
		at += 2
		digest = chunk.AfterGap(at)
	}
	data = append(data, 'x')
	digest = digest.Update([]byte("x"))
	line(Entry{Time: time.Now(), Event: EventClose, Epoch: 1, To: at + 1, File: "web1/app.log", Name: "web1/app@1.log", Size: int64(len(data)), Digest: &digest})
	f, err := os.Create(filepath.Join(dir, "app@1.log.zst"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := compressions["zstd"].writer(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(filepath.Join(dir, "app@ledger.jsonl"), ledger, 0o600); err != nil {
		t.Fatal(err)
	}
	return output
}

func TestManyGaps(t *testing.T) {
	t.Parallel()
	const gaps = 5000
	output := []string{gapped(t, gaps)}
	v, err := Verify(t.Context(), output, "web1", "app", nil)
	if err != nil || v.Verdict != Intact || v.Intact != gaps+1 || v.Gaps != gaps || v.Lost != gaps {
		t.Errorf("%+v %v", v, err)
	}
	if missing, err := Cat(io.Discard, output, "web1", "app"); err != nil || missing > 0 {
		t.Errorf("%d missing: %v", missing, err)
	}
	if holes, _, err := Holes(output, "web1", "app"); err != nil || len(holes) > 0 {
		t.Errorf("%d holes: %v", len(holes), err)
	}
	if err := os.Remove(filepath.Join(output[0], "web1", "app@1.log.zst")); err != nil {
		t.Fatal(err)
	}
	if holes, _, err := Holes(output, "web1", "app"); err != nil || len(holes) != gaps+1 {
		t.Errorf("%d holes: %v", len(holes), err)
	}
	if v, err := Verify(t.Context(), output, "web1", "app", nil); err != nil || v.Damaged != gaps+1 {
		t.Errorf("%+v %v", v, err)
	}
}

// BenchmarkManyGaps: ten times the gaps may take ten times as long, and little more.
func BenchmarkManyGaps(b *testing.B) {
	for _, gaps := range []int{10_000, 100_000} {
		output := []string{gapped(b, gaps)}
		b.Run(fmt.Sprintf("verify/%d", gaps), func(b *testing.B) {
			for b.Loop() {
				if v, err := Verify(b.Context(), output, "web1", "app", nil); err != nil || v.Verdict != Intact {
					b.Fatalf("%+v %v", v, err)
				}
			}
		})
		b.Run(fmt.Sprintf("cat/%d", gaps), func(b *testing.B) {
			for b.Loop() {
				if _, err := Cat(io.Discard, output, "web1", "app"); err != nil {
					b.Fatal(err)
				}
				if holes, _, err := Holes(output, "web1", "app"); err != nil || len(holes) > 0 {
					b.Fatal(len(holes), err)
				}
			}
		})
	}
}
