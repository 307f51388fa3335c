package receive

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"logforward/internal/chunk"
)

// FuzzJudge sends a cursor chunks of all kinds, true and forged, beside a model that keeps the bytes.
// Whatever is taken continues the model: no byte changes, none is left out.
func FuzzJudge(f *testing.F) {
	f.Add([]byte{0, 0, 9, 0, 0, 9, 5, 0, 0, 4, 9, 1})
	f.Add([]byte{0, 0, 200, 0, 0, 100, 200, 2, 0, 0, 255, 3, 1, 0, 9, 0, 1, 9, 9, 4})
	f.Fuzz(judgeModel)
}

// TestJudgeAgainstModel does the same with sequences of its own.
func TestJudgeAgainstModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		in := make([]byte, 4*30)
		for i := range in {
			in[i] = byte(rng.Uint32() >> rng.IntN(8))
		}
		judgeModel(t, in)
	}
}

func judgeModel(t *testing.T, in []byte) {
	c := newCursor(chunk.Place{})
	var epoch, position uint64
	var content []byte           // at each position of the epoch; of gaps too, as zeros
	var gap []bool               // these positions are a gap
	digests := []chunk.Digest{0} // at each position
	for ; len(in) >= 4; in = in[4:] {
		e, p, n, kind := uint64(in[0]%4)+1, uint64(in[1]), uint64(in[2])+1, in[3]%6
		ch := &chunk.Chunk{Epoch: e, Position: p, Length: n, File: string(rune('a' + in[3]/64)), Offset: int64(p)}
		if kind == 3 || kind == 4 {
			ch.Position = position // often just fits
		}
		if kind == 4 || kind == 5 {
			ch.Gap = &chunk.Gap{Cause: "x"}
		} else {
			ch.Data = make([]byte, n)
			for i := range ch.Data {
				ch.Data[i] = byte((ch.Position+uint64(i))*7 + e)
				if kind == 2 {
					ch.Data[i]++ // forged
				}
			}
			ch.Checksum = chunk.Sum(ch.Data)
		}
		truthful := e == epoch && ch.Position < uint64(len(digests))
		if truthful {
			ch.Digest = digests[ch.Position]
		}
		if kind == 1 {
			ch.Digest += chunk.Digest(in[1] & 1)
		}
		truthful = truthful && ch.Digest == digests[ch.Position]
		v, skip := c.judge(ch)
		if v != take {
			continue
		}
		c.advance(ch, skip)
		if e != epoch {
			if e < epoch || ch.Position != 0 || skip != 0 {
				t.Fatalf("took %+v with skip %d in epoch %d", ch, skip, epoch)
			}
			epoch, position, content, gap, digests = e, 0, nil, nil, digests[:1:1]
		}
		if ch.Position+skip != position || ch.Position > position {
			t.Fatalf("took %+v with skip %d at %d", ch, skip, position)
		}
		for i := ch.Position; i < ch.End(); i++ {
			var b byte
			if ch.Gap == nil {
				b = ch.Data[i-ch.Position]
			}
			if i < position {
				if ch.Gap == nil && truthful && !gap[i] && content[i] != b {
					t.Fatalf("took %+v, whose byte at %d is another one", ch, i)
				}
				continue
			}
			d := digests[i].Update([]byte{b})
			if ch.Gap != nil {
				d = chunk.AfterGap(i + 1)
			}
			content, gap, digests = append(content, b), append(gap, ch.Gap != nil), append(digests, d)
		}
		position = ch.End()
		if ch.Gap != nil {
			digests[position] = chunk.AfterGap(position)
		}
		if c.Epoch != epoch || c.Position != position || c.Digest != digests[position] {
			t.Fatalf("at epoch %d, %d, %s; want epoch %d, %d, %s", c.Epoch, c.Position, c.Digest, epoch, position, digests[position])
		}
		// The tail proves what stands before the place.
		if c.Tail.From > position || digests[c.Tail.From] != c.Tail.Digest {
			t.Fatalf("tail from %d says %s, want %s", c.Tail.From, c.Tail.Digest, digests[c.Tail.From])
		}
		if got := c.Tail.Digest.Update(content[c.Tail.From:]); got != c.Digest {
			t.Fatalf("tail from %d gives %s, want %s", c.Tail.From, got, c.Digest)
		}
		if len(c.Sources) > maxSources {
			t.Fatalf("%d sources", len(c.Sources))
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"place":{"epoch":1,"position":10,"digest":"00000000000000ab","tail":{"from":3,"digest":"00000000000000ab"}},"learnt":{"epoch":1,"position":9},"ranges":[{"receiver":"r1","file":"a/b.log","epoch":1,"from":0,"to":10}],"writer":"r1/x","commit":7}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if r.Place.Position > chunk.MaxPosition || r.Place.Tail.From > r.Place.Position {
			t.Fatalf("%+v", r)
		}
		m := mark{Place: r.Place, File: "a/new.log", From: 0}
		r.extend("r1", &m, time.Time{})
		if len(r.Ranges) > maxRanges && len(b) < 1000 || m.Place.Position > 0 && !r.covers("r1", &m) {
			t.Fatalf("%+v doesn't cover %+v", r, m)
		}
		text, err := r.bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRecord(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if more, err := again.bytes(); err != nil || !bytes.Equal(text, more) {
			t.Fatalf("%s, then %s, %v", text, more, err)
		}
	})
}

func FuzzStateEntry(f *testing.F) {
	dir := f.TempDir()
	s, _, err := openState(dir, &disk{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.close() })
	s.db.NoSync = true
	f.Add("web1.syslog", []byte(`{"committed":{"place":{"epoch":1,"position":10},"file":"web1/syslog.log","size":10},"prepared":{"place":{}},"closing":{"from":"a","to":"b"},"opening":"x","ledger_file":"y"}`))
	f.Add("nonsense", []byte(`null`))
	f.Fuzz(func(t *testing.T, k string, v []byte) {
		if k == "" || len(k) > 1000 {
			return
		}
		err := s.db.Update(func(tx *bolt.Tx) error {
			if err := tx.Bucket(bucketClosed).Put([]byte(k), v); err != nil {
				return err
			}
			return tx.Bucket(bucketLogs).Put([]byte(k), v)
		})
		if err != nil {
			t.Fatal(err)
		}
		all, bad, err := s.logs(nil)
		if err != nil || len(all)+len(bad) != 1 {
			t.Fatalf("%d read, %d bad, %v", len(all), len(bad), err)
		}
		for k, l := range all {
			if identity, name, err := splitKey(k); err == nil && key(identity, name) != k {
				t.Fatalf("%q is %q and %q", k, identity, name)
			}
			if _, err := json.Marshal(l); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.closedFiles(); err != nil {
			t.Fatal(err)
		}
		if err := s.put("", map[string]*local{k: nil}, map[string]*closed{k: nil}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzLedger reads what anybody may have written, and puts files together by it.
func FuzzLedger(f *testing.F) {
	f.Add([]byte("{\"event\":\"epoch\",\"epoch\":1}\n{\"event\":\"range\",\"epoch\":1,\"file\":\"a/l.log\"}\n{\"event\":\"close\",\"file\":\"a/l.log\",\"name\":\"a/l@1.log\",\"size\":3}\n{\"event\":\"range\",\"epoch\":1,\"from\":3,\"file\":\"a/l.log\"}\n{\"event\":\"damage\",\"file\":\"a/l.log\"}\n{\"event\":\"expire\",\"file\":\"a/l@1.log\"}\n{\"half"))
	f.Add([]byte("{\"event\":\"range\",\"file\":\"../../etc/passwd\"}\n{\"event\":\"range\",\"file\":\"/etc/passwd\",\"offset\":-5}\n"))
	f.Add([]byte("{\"event\":\"range\",\"file\":\"../secret\"}\n{\"event\":\"range\",\"file\":\"a/../../secret\"}\n"))
	x := newNodeSeals("a", "l", 2)
	c := &chunk.Chunk{Epoch: 1, Length: 3, Data: []byte("abc")}
	x.sign(c)
	f.Add([]byte(`{"event":"range","epoch":1,"file":"a/l.log"}` + "\n" + `{"event":"seal","epoch":1,"seal":"` + c.Seal.String() + `"}` + "\n" + `{"event":"close","epoch":1,"to":3,"file":"a/l.log","name":"a/l@1.log","size":3}` + "\n"))
	dir := f.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.MkdirAll(filepath.Join(out, "a"), 0o755); err != nil {
		f.Fatal(err)
	}
	for name, data := range map[string]string{"out/a/l.log": "open", "out/a/l@1.log": "abc", "secret": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		if err := os.WriteFile(filepath.Join(out, "a", "l@ledger.jsonl"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		entries, err := Ledger(filepath.Join(out, "a", "l@ledger.jsonl"))
		if err != nil {
			return
		}
		open := false // a file that is to be there is waited for
		for _, x := range extents(entries, nil) {
			open = open || x.End < 0 && !x.Gone
			if file, err := OpenCentral(out, x.File); err == nil {
				var text [6]byte
				file.Read(text[:])
				file.Close()
				if string(text[:]) == "secret" {
					t.Fatalf("%q was read outside of the output", x.File)
				}
			}
		}
		if open {
			return
		}
		v, err := VerifySealed(t.Context(), []string{out}, "a", "l", nil, SealOptions{Keys: x.keys(), All: true, Expect: &SealPoint{1, 2, c.Seal.Sum}})
		if err != nil || v.Seals == nil || v.Verdict == Intact {
			t.Fatalf("%+v, %v", v, err)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzGapEntry: whatever a node says of a gap can be written to the ledger as one line.
func FuzzGapEntry(f *testing.F) {
	f.Add([]byte(`{"cause":"x","bytes":-1,"time":"9999-12-31T23:59:59-23:59","path":"\n"}`), uint64(5))
	dec, err := chunk.NewDecompressor()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, gap []byte, length uint64) {
		h := (&chunk.Chunk{Epoch: 1, Length: max(1, length), File: "f"}).Header(chunk.Plain)
		h[chunk.HeaderGap] = []string{string(gap)}
		c, err := dec.Decode(h, nil)
		if err != nil {
			return
		}
		e := Entry{Event: EventGap, To: c.End(), Cause: c.Gap.Cause, Bytes: &c.Gap.Bytes, Found: &c.Gap.Time, Path: c.Gap.Path}
		line, err := e.line()
		if err != nil || bytes.Count(line, []byte("\n")) != 1 || binary.Size(line) > 4096 {
			t.Fatalf("%q, %v", line, err)
		}
	})
}
