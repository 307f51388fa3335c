package chunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// pack compresses data, which must be worth it.
func pack(t testing.TB, encoding Encoding, data []byte) []byte {
	t.Helper()
	c, err := NewCompressor(encoding)
	if err != nil {
		t.Fatal(err)
	}
	packed, got := c.Compress(nil, data)
	if got != encoding {
		t.Fatalf("%s: %d bytes were packed to %d as %q", encoding, len(data), len(packed), got)
	}
	return packed
}

func decoder(t testing.TB) *Decompressor {
	t.Helper()
	d, err := NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func sample(data string) *Chunk {
	return &Chunk{Epoch: 1763848236000000, Predecessor: 7, Position: 4096, Length: uint64(len(data)), Checksum: Sum([]byte(data)),
		Digest: Sum([]byte("before")), Round: 3, File: "fd00:12345:1763848236:9a6c", Offset: 512, Data: []byte(data)}
}

func equal(a, b *Chunk) bool {
	x, y := *a, *b
	x.Data, y.Data, x.Gap, y.Gap = nil, nil, nil, nil
	if x.Seal, y.Seal = nil, nil; (a.Seal == nil) != (b.Seal == nil) || a.Seal != nil && a.Seal.String() != b.Seal.String() {
		return false
	}
	if (a.Gap == nil) != (b.Gap == nil) || fmt.Sprintf("%+v", x) != fmt.Sprintf("%+v", y) || !bytes.Equal(a.Data, b.Data) {
		return false
	}
	return a.Gap == nil || a.Gap.String() == b.Gap.String()
}

func TestChunkRoundTrip(t *testing.T) {
	dec := decoder(t)
	gap := &Chunk{Epoch: 1, Position: 0, Length: 1 << 40, File: "f", Gap: &Gap{Cause: "truncated \"<&>\" \x00\xff" + strings.Repeat("x", 500), Bytes: -1, Time: time.Unix(1e9, 0).UTC(), Path: strings.Repeat("/é", 300)}}
	long := sample(strings.Repeat("GET / HTTP/1.1 200\n", 10_000))
	for name, test := range map[string]struct {
		c        *Chunk
		encoding Encoding
		payload  []byte
	}{
		"plain": {sample("one line\n"), Plain, []byte("one line\n")},
		"bytes": {sample("\x00\xff\xfe\r\n"), Plain, []byte("\x00\xff\xfe\r\n")},
		"s2":    {long, S2, pack(t, S2, long.Data)},
		"zstd":  {long, Zstd, pack(t, Zstd, long.Data)},
		"gap":   {gap, Plain, nil},
	} {
		if test.encoding != Plain && len(test.payload) > len(long.Data)/10 {
			t.Errorf("%s: %d bytes packed to %d", name, len(long.Data), len(test.payload))
		}
		h := test.c.Header(test.encoding)
		got, err := dec.Decode(h, test.payload)
		if err != nil || !equal(got, test.c) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		room := 0
		for k, v := range h {
			room += len(k) + len(v[0]) + 4
		}
		if room > HeaderRoom-300 { // the rest is for what the protocol itself adds
			t.Errorf("%s: headers take %d bytes", name, room)
		}
	}
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, encoding := range []Encoding{S2, Zstd} {
		comp, err := NewCompressor(encoding)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := comp.Compress(nil, make([]byte, CompressFrom-1)); got != Plain {
			t.Errorf("%s: a short chunk was compressed", encoding)
		}
		if _, got := comp.Compress(nil, noise); got != Plain {
			t.Errorf("%s: noise was called worth compressing", encoding)
		}
	}
	if _, err := NewCompressor("br"); err == nil {
		t.Error("an unknown encoding was taken")
	}
}

// A message cut at any byte, in any header or the payload, is malformed or says the same.
func TestDecodeCutAtEveryByte(t *testing.T) {
	dec := decoder(t)
	long := sample(strings.Repeat("a line of some length\n", 100))
	gap := &Chunk{Epoch: 2, Predecessor: 1, Position: 9, Length: 5, File: "f", Gap: &Gap{Cause: "gone", Bytes: 5, Exact: true, Time: time.Unix(1e9, 0).UTC()}}
	for name, test := range map[string]struct {
		c        *Chunk
		encoding Encoding
		payload  []byte
	}{"plain": {sample("some bytes\n"), Plain, []byte("some bytes\n")}, "s2": {long, S2, pack(t, S2, long.Data)},
		"zstd": {long, Zstd, pack(t, Zstd, long.Data)}, "gap": {gap, Plain, nil}} {
		check := func(where string, h map[string][]string, payload []byte) {
			t.Helper()
			got, err := dec.Decode(h, payload)
			if err == nil && !bytes.Equal(got.Data, test.c.Data) {
				t.Fatalf("%s: %s: wrong bytes", name, where)
			}
			if err != nil && (!errors.Is(err, ErrMalformed) || len(err.Error()) > 1000) {
				t.Fatalf("%s: %s: %v", name, where, err)
			}
		}
		for i := range test.payload {
			got, err := dec.Decode(test.c.Header(test.encoding), test.payload[:i])
			if err == nil {
				t.Fatalf("%s: payload cut to %d of %d was taken: %+v", name, i, len(test.payload), got)
			}
			check(fmt.Sprintf("payload cut at %d", i), test.c.Header(test.encoding), test.payload[:i])
		}
		for header, v := range test.c.Header(test.encoding) {
			for i := range v[0] {
				h := test.c.Header(test.encoding)
				h[header] = []string{v[0][:i]}
				check(fmt.Sprintf("%s cut at %d", header, i), h, test.payload)
				h[header] = []string{v[0][i+1:]}
				check(fmt.Sprintf("%s cut before %d", header, i), h, test.payload)
			}
			h := test.c.Header(test.encoding)
			h[header] = append(h[header], v[0])
			if _, err := dec.Decode(h, test.payload); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %s stands twice: %v", name, header, err)
			}
			h[header] = nil
			if _, err := dec.Decode(h, test.payload); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %s stands zero times: %v", name, header, err)
			}
			delete(h, header)
			if header != HeaderEncoding && header != HeaderGap {
				if _, err := dec.Decode(h, test.payload); !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: without %s: %v", name, header, err)
				}
			}
		}
	}
}

func TestDecodeRefusesLies(t *testing.T) {
	dec := decoder(t)
	bomb, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 64<<20)
	huge := bomb.EncodeAll(zeros, nil)
	exact := bomb.EncodeAll(zeros[:MaxLength], nil)
	twice := append(bytes.Clone(exact), exact...)
	set := func(pairs ...string) map[string][]string {
		h := sample("bytes").Header(Plain)
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	full := []string{HeaderEncoding, "zstd", HeaderLength, fmt.Sprint(MaxLength), HeaderChecksum, Sum(zeros[:MaxLength]).String()}
	if _, err := dec.Decode(set(full...), exact); err != nil {
		t.Errorf("the longest chunk: %v", err)
	}
	block := s2.Encode(nil, zeros)
	full2 := []string{HeaderEncoding, "s2", HeaderLength, fmt.Sprint(MaxLength), HeaderChecksum, Sum(zeros[:MaxLength]).String()}
	exact2 := s2.Encode(nil, zeros[:MaxLength])
	if _, err := dec.Decode(set(full2...), exact2); err != nil {
		t.Errorf("the longest chunk as s2: %v", err)
	}
	plain := []byte("bytes")
	for name, test := range map[string]struct {
		header  map[string][]string
		payload []byte
	}{
		"length 0":                  {set(HeaderLength, "0"), nil},
		"length too short":          {set(HeaderLength, "4"), plain},
		"length too long":           {set(HeaderLength, "6"), plain},
		"length over the limit":     {set(HeaderLength, fmt.Sprint(MaxLength+1)), plain},
		"length is no number":       {set(HeaderLength, "5 "), plain},
		"length with a sign":        {set(HeaderLength, "+5"), plain},
		"length with a zero":        {set(HeaderLength, "05"), plain},
		"length overflows":          {set(HeaderLength, "18446744073709551621"), plain},
		"position beyond":           {set(HeaderPosition, fmt.Sprint(uint64(MaxPosition)-4)), plain},
		"position way beyond":       {set(HeaderPosition, "18446744073709551615"), plain},
		"offset beyond":             {set(HeaderOffset, fmt.Sprint(uint64(MaxPosition)-4)), plain},
		"checksum":                  {set(HeaderChecksum, "0000000000000000"), plain},
		"checksum in upper case":    {set(HeaderChecksum, strings.ToUpper(Sum(plain).String())), plain},
		"checksum of a shape":       {set(HeaderChecksum, strings.Repeat("f", 1<<20)), plain},
		"epoch 0":                   {set(HeaderEpoch, "0 0"), plain},
		"epoch alone":               {set(HeaderEpoch, "5"), plain},
		"epoch after itself":        {set(HeaderEpoch, "5 5"), plain},
		"epoch after a later one":   {set(HeaderEpoch, "5 6"), plain},
		"epoch beyond":              {set(HeaderEpoch, "9223372036854775808 0"), plain},
		"three epochs":              {set(HeaderEpoch, "5 4 3"), plain},
		"file with a space":         {set(HeaderFile, "a b"), plain},
		"file with a newline":       {set(HeaderFile, "a\nb"), plain},
		"file too long":             {set(HeaderFile, strings.Repeat("f", maxFile+1)), plain},
		"unknown encoding":          {set(HeaderEncoding, "br"), plain},
		"empty encoding":            {set(HeaderEncoding, ""), plain},
		"no zstd":                   {set(HeaderEncoding, "zstd"), plain},
		"zstd bomb":                 {set(full...), huge},
		"zstd bomb that says so":    {set(HeaderEncoding, "zstd", HeaderLength, fmt.Sprint(len(zeros))), huge},
		"small length, large bytes": {set(HeaderEncoding, "zstd", HeaderLength, "5"), exact},
		"two frames":                {set(full...), twice},
		"no s2":                     {set(HeaderEncoding, "s2"), plain},
		"no s2 at all":              {set(HeaderEncoding, "s2"), nil},
		"s2 bomb":                   {set(full2...), block},
		"s2 bomb that says so":      {set(HeaderEncoding, "s2", HeaderLength, fmt.Sprint(len(zeros))), block},
		"s2 claims more":            {set(full2...), append(binary.AppendUvarint(nil, MaxLength), exact2[4:len(exact2)-1]...)},
		"s2 of 4 GiB":               {set(full2...), binary.AppendUvarint(nil, 1<<32)},
		"s2 small length":           {set(HeaderEncoding, "s2", HeaderLength, "5"), exact2},
		"two blocks":                {set(full2...), append(bytes.Clone(exact2), exact2...)},
		"gap with bytes":            {set(HeaderGap, `{"cause":"x"}`, HeaderChecksum, "0000000000000000"), plain},
		"gap with a checksum":       {set(HeaderGap, `{"cause":"x"}`), nil},
		"gap with an encoding":      {set(HeaderGap, `{"cause":"x"}`, HeaderChecksum, "0000000000000000", HeaderEncoding, "zstd"), nil},
		"gap without a cause":       {set(HeaderGap, `{}`, HeaderChecksum, "0000000000000000"), nil},
		"gap of -2 bytes":           {set(HeaderGap, `{"cause":"x","bytes":-2}`, HeaderChecksum, "0000000000000000"), nil},
		"gap too long":              {set(HeaderGap, `{"cause":"`+strings.Repeat("x", maxGap)+`"}`, HeaderChecksum, "0000000000000000"), nil},
		"gap that is no JSON":       {set(HeaderGap, `cause`, HeaderChecksum, "0000000000000000"), nil},
	} {
		if got, err := dec.Decode(test.header, test.payload); !errors.Is(err, ErrMalformed) || len(err.Error()) > 1000 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestGapTextsCantLeaveTheirField(t *testing.T) {
	dec := decoder(t)
	h := (&Chunk{Epoch: 1, Length: 1, File: "f", Gap: &Gap{Cause: "x"}}).Header(Plain)
	h[HeaderGap] = []string{`{"cause":"a\u001b[2Jb\nc","path":"` + strings.Repeat("p", 300) + `"}`}
	c, err := dec.Decode(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Gap.Cause != "a?[2Jb?c" || len(c.Gap.Path) != 200 {
		t.Errorf("%+v", c.Gap)
	}
}

func FuzzDecode(f *testing.F) {
	dec := decoder(f)
	long := sample(strings.Repeat("a line\n", 500))
	sealed := sample("sealed\n")
	sealed.Seal = signed(sealed.Position-5, sealed.End())
	for _, x := range []struct {
		h map[string][]string
		p []byte
	}{{sample("x\n").Header(Plain), []byte("x\n")}, {sealed.Header(Plain), sealed.Data}, {long.Header(Zstd), pack(f, Zstd, long.Data)}, {long.Header(S2), pack(f, S2, long.Data)},
		{(&Chunk{Epoch: 1, Length: 1, File: "f", Gap: &Gap{Cause: "x"}}).Header(Plain), nil}} {
		var text strings.Builder
		for _, k := range slices.Sorted(maps.Keys(x.h)) {
			fmt.Fprintf(&text, "%s: %s\n", k, x.h[k][0])
		}
		f.Add(text.String(), x.p)
	}
	f.Fuzz(func(t *testing.T, headers string, payload []byte) {
		h := make(map[string][]string)
		for line := range strings.SplitSeq(headers, "\n") {
			k, v, _ := strings.Cut(line, ": ")
			h[k] = append(h[k], v)
		}
		c, err := dec.Decode(h, payload)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if c.Gap == nil && (uint64(len(c.Data)) != c.Length || c.Length > MaxLength || Sum(c.Data) != c.Checksum) || c.Length == 0 || c.End() > MaxPosition || c.Epoch == 0 {
			t.Fatalf("%+v", c)
		}
		if s := c.Seal; s != nil && (s.From >= s.To || c.Gap == nil && s.To != c.End() || c.Gap != nil && s.To != c.Position) {
			t.Fatalf("%+v with %+v", c, s)
		}
		again, err := dec.Decode(c.Header(Plain), c.Data)
		if err != nil || !equal(c, again) {
			t.Fatalf("%+v, then %+v, %v", c, again, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	dec := decoder(b)
	line := strings.Repeat("2026-01-01T00:00:00Z host daemon[1234]: a message of usual length\n", 8000)[:512<<10]
	for _, size := range []int{10 << 10, 512 << 10} {
		c := sample(line[:size])
		for name, x := range map[string]struct {
			h map[string][]string
			p []byte
		}{"plain": {c.Header(Plain), c.Data}, "s2": {c.Header(S2), pack(b, S2, c.Data)}, "zstd": {c.Header(Zstd), pack(b, Zstd, c.Data)}} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := dec.Decode(x.h, x.p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	c := sample("some bytes\n")
	b.ReportAllocs()
	for b.Loop() {
		c.Header(Zstd)
	}
}
