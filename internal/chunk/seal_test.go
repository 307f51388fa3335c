package chunk

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var sealTime = time.Unix(1763848236, 0).UTC()

func sealKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

var sealed1 = SealOf{"web1.example.net", "nginx-access", 1763848236000000}

// signed is a seal of a range.
func signed(from, to uint64) *Seal {
	s := &Seal{From: from, To: to, Prev: sha256.Sum256([]byte("before")), Sum: sha256.Sum256([]byte("bytes"))}
	s.Sign(sealed1, sealKey(1), sealTime.Add(999*time.Millisecond))
	return s
}

// The wire as it was first used: a seal that was kept must be one for ever.
func TestSealIsWhatItWas(t *testing.T) {
	s := signed(4096, 1052672)
	const text = "4096 1052672 1763848236 6db7d803e74f1ffa7d8f5adc0bf95b3e15bf4c8373fffadf546227cc6c6742cb 277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9 8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c d72ed1c711015ce6a4c5bc394211dbff324283351ad601fc1a2347b46fd91377d9cf2fdbd77ce38caefd650ed9a0af15450bf5ee44384a4945f40332b597e404"
	if got := s.String(); got != text {
		t.Errorf("%s", got)
	}
	if id := s.ID(sealed1).String(); id != "bebaaf76790d8694c506afb53a9b52ad7ea3a2b148bec2341b1d65e9189985ff" {
		t.Errorf("ID %s", id)
	}
	// All of it once more, by other means.
	var b bytes.Buffer
	b.WriteString("logforward seal 1\n")
	b.WriteString("\x00\x00\x00\x10web1.example.net\x00\x00\x00\x0cnginx-access")
	b.Write([]byte{0, 6, 0x44, 0x35, 0xeb, 0x8b, 0x63, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x10, 0x10, 0})
	prev, sum := sha256.Sum256([]byte("before")), sha256.Sum256([]byte("bytes"))
	b.Write(prev[:])
	b.Write(sum[:])
	if id := sha256.Sum256(b.Bytes()); id != s.ID(sealed1) {
		t.Errorf("ID of %x", b.Bytes())
	}
	b.Write([]byte{0, 0, 0, 0, 0x69, 0x22, 0x30, 0x2c})
	if !ed25519.Verify(sealKey(1).Public().(ed25519.PublicKey), b.Bytes(), s.Signature) {
		t.Errorf("signature of %x", b.Bytes())
	}
}

func TestSealRoundTrip(t *testing.T) {
	for _, s := range []*Seal{signed(0, 1), signed(4096, 1052672), signed(MaxPosition-1, MaxPosition), {To: 1, Time: time.Unix(0, 0).UTC(), Key: make([]byte, 32), Signature: make([]byte, 64)},
		{To: 1, Time: time.Unix(1<<37, 0).UTC(), Key: make([]byte, 32), Signature: make([]byte, 64)}} {
		same := func(how string, got *Seal, err error) {
			t.Helper()
			if err != nil || got.From != s.From || got.To != s.To || got.Prev != s.Prev || got.Sum != s.Sum || !got.Time.Equal(s.Time) || !got.Key.Equal(s.Key) || !bytes.Equal(got.Signature, s.Signature) {
				t.Errorf("%s: %+v became %+v, %v", how, s, got, err)
			}
		}
		got, err := ParseSeal(s.String())
		same("header", got, err)
		b, err := json.Marshal(s)
		if err != nil || string(b) != `"`+s.String()+`"` {
			t.Errorf("%s, %v", b, err)
		}
		got = new(Seal)
		same("JSON", got, json.Unmarshal(b, got))
	}
	var h Hash
	for _, text := range []string{`"` + strings.Repeat("AB", 32) + `"`, `"ab"`, `""`, `"` + strings.Repeat("ab", 33) + `"`, `"` + strings.Repeat("xy", 32) + `"`} {
		if err := json.Unmarshal([]byte(text), &h); err == nil {
			t.Errorf("%s was taken for a hash", text)
		}
	}
	if err := json.Unmarshal([]byte(`"`+strings.Repeat("ab", 32)+`"`), &h); err != nil || h.String() != strings.Repeat("ab", 32) {
		t.Error(h, err)
	}
	for _, text := range []string{`7`, `""`, `{}`, `"` + signed(0, 1).String() + ` "`} {
		if err := json.Unmarshal([]byte(text), new(Seal)); err == nil {
			t.Errorf("%s was taken for a seal", text)
		}
	}
}

func TestSealIsParsedExactly(t *testing.T) {
	good := signed(4096, 1052672).String()
	f := strings.Split(good, " ")
	with := func(i int, text string) string {
		g := append([]string(nil), f...)
		g[i] = text
		return strings.Join(g, " ")
	}
	for name, text := range map[string]string{
		"nothing":             "",
		"six fields":          strings.Join(f[:6], " "),
		"eight fields":        good + " 1",
		"space before":        " " + good,
		"space behind":        good + " ",
		"two spaces":          strings.Replace(good, " ", "  ", 1),
		"a tab":               strings.Replace(good, " ", "\t", 1),
		"an end of line":      good + "\n",
		"from with a sign":    with(0, "+4096"),
		"from with a zero":    with(0, "04096"),
		"from is nothing":     with(0, ""),
		"from in hex":         with(0, "0x1000"),
		"from beyond 64 bits": with(0, "18446744073709551616"),
		"from at to":          with(0, "1052672"),
		"from behind to":      with(0, "1052673"),
		"to beyond":           with(1, "9223372036854775808"),
		"to with a sign":      with(1, "-1"),
		"time with a sign":    with(2, "-1"),
		"time far off":        with(2, fmt.Sprint(uint64(1)<<37+1)),
		"time with a point":   with(2, "1763848236.5"),
		"prev too short":      with(3, f[3][2:]),
		"prev too long":       with(3, f[3]+"00"),
		"prev in upper case":  with(3, strings.ToUpper(f[3])),
		"prev is no hex":      with(3, "g"+f[3][1:]),
		"sum too short":       with(4, f[4][1:]),
		"sum in upper case":   with(4, strings.ToUpper(f[4])),
		"key too short":       with(5, f[5][2:]),
		"key in upper case":   with(5, strings.ToUpper(f[5])),
		"signature too short": with(6, f[6][2:]),
		"signature too long":  with(6, f[6]+"00"),
		"signature in upper":  with(6, strings.ToUpper(f[6])),
		"much":                with(6, strings.Repeat("a", 1<<20)),
	} {
		if s, err := ParseSeal(text); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for i := range good { // each byte counts
		for _, cut := range []string{good[:i], good[i+1:], good[:i] + good[i+1:]} {
			if s, err := ParseSeal(cut); err == nil && s.String() != cut {
				t.Fatalf("%q became %q", cut, s)
			}
		}
	}
}

// A signature is one of this identity, log, epoch, range and sum, and of no other.
func TestSealIsBoundToWhatItSpeaksOf(t *testing.T) {
	good := signed(4096, 1052672)
	if err := good.Check(sealed1); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]SealOf{
		"another identity":         {"web2.example.net", sealed1.Log, sealed1.Epoch},
		"another log":              {sealed1.Identity, "nginx-error", sealed1.Epoch},
		"another epoch":            {sealed1.Identity, sealed1.Log, sealed1.Epoch + 1},
		"identity and log swapped": {sealed1.Log, sealed1.Identity, sealed1.Epoch},
		"the border between moved": {sealed1.Identity + sealed1.Log[:1], sealed1.Log[1:], sealed1.Epoch},
		"nothing":                  {},
	} {
		if err := good.Check(of); err == nil {
			t.Errorf("%s: it fits", name)
		}
		if good.ID(of) == good.ID(sealed1) {
			t.Errorf("%s: the same ID", name)
		}
	}
	for name, change := range map[string]func(*Seal){
		"from":              func(s *Seal) { s.From++ },
		"to":                func(s *Seal) { s.To++ },
		"prev":              func(s *Seal) { s.Prev[31]++ },
		"no prev":           func(s *Seal) { s.Prev = Hash{} },
		"sum":               func(s *Seal) { s.Sum[0]++ },
		"prev and sum":      func(s *Seal) { s.Prev, s.Sum = s.Sum, s.Prev },
		"time":              func(s *Seal) { s.Time = s.Time.Add(time.Second) },
		"another key":       func(s *Seal) { s.Key = sealKey(2).Public().(ed25519.PublicKey) },
		"no key":            func(s *Seal) { s.Key = nil },
		"half a key":        func(s *Seal) { s.Key = s.Key[:16] },
		"signature":         func(s *Seal) { s.Signature = bytes.Clone(s.Signature); s.Signature[3]++ },
		"no signature":      func(s *Seal) { s.Signature = nil },
		"half a signature":  func(s *Seal) { s.Signature = s.Signature[:32] },
		"a longer one":      func(s *Seal) { s.Signature = append(bytes.Clone(s.Signature), 0) },
		"of something else": func(s *Seal) { s.Signature = ed25519.Sign(sealKey(1), s.body(sealed1)) },
	} {
		s := *good
		change(&s)
		if err := s.Check(sealed1); err == nil {
			t.Errorf("%s: it fits", name)
		}
	}
	again := *good
	again.Sign(sealed1, sealKey(2), sealTime.Add(time.Hour))
	if err := again.Check(sealed1); err != nil || again.ID(sealed1) != good.ID(sealed1) {
		t.Errorf("signed again, by another key and later, it names something else: %v", err)
	}
}

// A chunk brings its seal along; one that can't be its own is left out, and the chunk counts all the same.
func TestSealComesWithItsChunk(t *testing.T) {
	dec := decoder(t)
	data := sample("one line\n")
	gap := &Chunk{Epoch: 2, Position: 4096, Length: 5, File: "f", Gap: &Gap{Cause: "gone", Bytes: 5}}
	for _, c := range []*Chunk{data, gap} {
		end := c.End()
		if c.Gap != nil {
			end = c.Position
		}
		good := signed(0, end).String()
		c.Seal = signed(0, end)
		got, err := dec.Decode(c.Header(Plain), c.Data)
		if err != nil || !equal(got, c) || got.Seal.Check(sealed1) != nil {
			t.Errorf("%+v became %+v, %v", c, got, err)
		}
		c.Seal = nil
		if h := c.Header(Plain); len(h[HeaderSeal]) > 0 {
			t.Errorf("%v", h)
		}
		for name, v := range map[string][]string{
			"one that ends before":     {signed(0, end-1).String()},
			"one that ends behind":     {signed(0, end+1).String()},
			"the chunk's other border": {signed(0, c.Position+c.End()-end).String()},
			"two":                      {good, good},
			"none of them":             {},
			"an empty one":             {""},
			"nonsense":                 {"x" + good},
		} {
			h := c.Header(Plain)
			h[HeaderSeal] = v
			if got, err := dec.Decode(h, c.Data); err != nil || got.Seal != nil || !equal(got, c) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

// The longest headers that there can be leave as much room as is counted on.
func TestHeaderRoomHoldsWithGapAndSeal(t *testing.T) {
	c := &Chunk{Epoch: MaxPosition, Predecessor: MaxPosition - 1, Position: MaxPosition - 1, Length: 1, Round: 1<<64 - 1, File: strings.Repeat("f", maxFile), Offset: MaxPosition, Seal: signed(MaxPosition-2, MaxPosition-1),
		Gap: &Gap{Cause: strings.Repeat("c", 500), Bytes: MaxPosition, Exact: true, Time: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.FixedZone("", 12*3600+59*60)), Path: strings.Repeat("/p", 300)}}
	c.Seal.Time = time.Unix(1<<37, 0)
	room := len("NATS/1.0\r\n\r\n")
	for _, encoding := range []Encoding{Plain, Zstd} { // a gap has none, but the sum of all is the bound
		for name, v := range c.Header(encoding) {
			room += len(name) + len(": \r\n") + len(v[0])
		}
		if room > HeaderRoom-300 { // the rest is for what the protocol itself adds
			t.Errorf("headers take %d bytes of %d", room, HeaderRoom)
		}
		room = len("NATS/1.0\r\n\r\n")
	}
}

func FuzzParseSeal(f *testing.F) {
	f.Add(signed(4096, 1052672).String())
	f.Add(signed(0, MaxPosition).String())
	f.Add("0 1 0 " + strings.Repeat("0", 64) + " " + strings.Repeat("f", 64) + " " + strings.Repeat("0", 64) + " " + strings.Repeat("0", 128))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSeal(text)
		if err != nil {
			return
		}
		if s.String() != text || s.From >= s.To || s.To > MaxPosition {
			t.Fatalf("%q became %q", text, s)
		}
		if b, err := json.Marshal(s.Time); err != nil {
			t.Fatalf("its time can't be written: %s, %v", b, err)
		}
		if s.Check(sealed1) == nil && !s.Key.Equal(sealKey(1).Public()) {
			t.Fatalf("%q fits", text)
		}
	})
}

func BenchmarkSealSign(b *testing.B) {
	s, key := signed(0, SealBlock), sealKey(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Sign(sealed1, key, sealTime)
	}
}
