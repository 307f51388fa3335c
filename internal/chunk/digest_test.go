package chunk

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
)

func TestDigestDoesntDependOnWhereChunksEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1<<16)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	want := Sum(data)
	for range 200 {
		var extended, updated Digest
		for at := 0; at < len(data); {
			n := min(1+rng.IntN(1<<rng.IntN(16)), len(data)-at)
			part := data[at : at+n]
			extended, updated = extended.Extend(Sum(part), uint64(n)), updated.Update(part)
			if extended != updated {
				t.Fatalf("at %d: extended %s, updated %s", at+n, extended, updated)
			}
			at += n
		}
		if extended != want {
			t.Fatalf("%s, want %s", extended, want)
		}
	}
	if d := Digest(5).Extend(0, 0); d != 5 {
		t.Errorf("no bytes change the digest to %s", d)
	}
}

// The check value of CRC-64/NVME, as the NVM Express specification and the CRC catalogue have it.
func TestDigestIsTheSpecifiedOne(t *testing.T) {
	if got := Sum([]byte("123456789")).String(); got != "ae8b14860a799888" {
		t.Errorf("check value %s", got)
	}
}

func TestDigestExtendOverHugeLengths(t *testing.T) {
	// Extending over a and then b zeros is extending over a+b at once, for any lengths.
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		a, b := rng.Uint64N(MaxPosition/2), rng.Uint64N(MaxPosition/2)
		d := Digest(rng.Uint64())
		if x, y := d.Extend(0, a).Extend(0, b), d.Extend(0, a+b); x != y {
			t.Fatalf("%d and %d: %s, %s", a, b, x, y)
		}
	}
}

func TestDigestBehindAGap(t *testing.T) {
	seen := make(map[Digest]uint64)
	for _, end := range []uint64{1, 2, 255, 256, 1 << 32, MaxPosition} {
		d := AfterGap(end)
		if other, ok := seen[d]; ok {
			t.Errorf("%d and %d have one digest", end, other)
		}
		seen[d] = end
		for _, before := range []uint64{0, end - 1} {
			c := Chunk{Position: before, Length: end - before, Digest: Digest(before) * 77, Gap: &Gap{Cause: "x"}}
			if c.Length > 0 && c.DigestAfter() != d {
				t.Errorf("gap from %d to %d depends on its begin", before, end)
			}
		}
	}
}

func TestParseDigest(t *testing.T) {
	for _, s := range []string{"", "0", "00000000000000000", "000000000000000g", "00000000000000AB", "+000000000000001", "0x00000000000001", "000000000000_001"} {
		if d, err := ParseDigest(s); err == nil {
			t.Errorf("%q is %s", s, d)
		}
	}
	b, err := json.Marshal(Digest(0xab))
	var d Digest
	if err != nil || string(b) != `"00000000000000ab"` || json.Unmarshal(b, &d) != nil || d != 0xab {
		t.Errorf("%s, %v, %s", b, err, d)
	}
	if err := json.Unmarshal([]byte("171"), &d); err == nil {
		t.Error("a JSON number is a digest")
	}
}

func BenchmarkExtend(b *testing.B) {
	d := Digest(1)
	for b.Loop() {
		d = d.Extend(Digest(12345), 512<<10)
	}
}
