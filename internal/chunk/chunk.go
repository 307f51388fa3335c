package chunk

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Encoding is how a payload is compressed, as it stands in [HeaderEncoding].
type Encoding string

const (
	Plain Encoding = ""
	S2    Encoding = "s2"   // block format: takes less time than it saves broker and receiver
	Zstd  Encoding = "zstd" // smaller, for several times the work
)

// Header names.
const (
	HeaderEpoch    = "Lf-Epoch"
	HeaderPosition = "Lf-Position"
	HeaderLength   = "Lf-Length"
	HeaderChecksum = "Lf-Checksum"
	HeaderDigest   = "Lf-Digest"
	HeaderRound    = "Lf-Round"
	HeaderFile     = "Lf-File"
	HeaderOffset   = "Lf-Offset"
	HeaderEncoding = "Lf-Encoding"
	HeaderGap      = "Lf-Gap"
)

const (
	// HeaderRoom is more than the headers of a chunk take on the wire, a gap's cause
	// included: the payload may be at most the server's max_payload less this.
	HeaderRoom = 4 << 10
	// MaxLength is the most uncompressed bytes that a chunk may claim to carry.
	MaxLength = 8 << 20
	// MaxPosition is the highest end of a range, so that sums never overflow.
	MaxPosition = math.MaxInt64
	// CompressFrom is the least number of bytes for which compression is tried.
	CompressFrom = 1 << 10

	maxFile = 128
	maxGap  = 1 << 10
)

// ErrMalformed is wrapped by every error of [Decode]: the message can never be
// understood, however often it is delivered.
var ErrMalformed = errors.New("malformed chunk")

// Chunk is a contiguous range of a log's positions, [Position, Position+Length).
type Chunk struct {
	Epoch       uint64
	Predecessor uint64 // epoch that this one continues; 0: none
	Position    uint64
	Length      uint64 // len(Data), or the positions that a gap takes
	Checksum    Digest // of Data
	Digest      Digest // running digest before Position
	Round       uint64
	File        string // generation's id
	Offset      int64  // of the first byte in that generation
	Gap         *Gap   // nil: the chunk carries bytes
	Seal        *Seal  // nil: it carries none. It ends where the chunk does or, on a gap, where the gap begins
	Data        []byte // uncompressed
}

// Gap says why a range of positions carries no bytes.
type Gap struct {
	Cause string    `json:"cause"`          // why, for a person
	Bytes int64     `json:"bytes"`          // lost bytes as far as known; -1: unknown
	Exact bool      `json:"exact"`          // Bytes is no estimate
	Time  time.Time `json:"time"`           // when the node found it
	Path  string    `json:"path,omitempty"` // the node's file
}

// End is the position behind the chunk.
func (c *Chunk) End() uint64 { return c.Position + c.Length }

// DigestAfter is the running digest behind the chunk.
func (c *Chunk) DigestAfter() Digest {
	if c.Gap != nil {
		return AfterGap(c.End())
	}
	return c.Digest.Extend(c.Checksum, c.Length)
}

// Header writes the chunk's headers; encoding is that of the payload.
func (c *Chunk) Header(encoding Encoding) map[string][]string {
	// One backing array for all values: this runs once per message.
	v := [11]string{
		strconv.FormatUint(c.Epoch, 10) + " " + strconv.FormatUint(c.Predecessor, 10),
		strconv.FormatUint(c.Position, 10),
		strconv.FormatUint(c.Length, 10),
		c.Checksum.String(),
		c.Digest.String(),
		strconv.FormatUint(c.Round, 10),
		c.File,
		strconv.FormatInt(c.Offset, 10),
		string(encoding),
	}
	h := make(map[string][]string, len(v))
	for i, name := range [...]string{HeaderEpoch, HeaderPosition, HeaderLength, HeaderChecksum, HeaderDigest, HeaderRound, HeaderFile, HeaderOffset} {
		h[name] = v[i : i+1 : i+1]
	}
	if encoding != Plain {
		h[HeaderEncoding] = v[8:9:9]
	}
	if c.Gap != nil {
		v[9] = c.Gap.String()
		h[HeaderGap] = v[9:10:10]
	}
	if c.Seal != nil {
		v[10] = c.Seal.String()
		h[HeaderSeal] = v[10:11:11]
	}
	return h
}

// String is the gap as it stands in the header: JSON in printable ASCII, at most 1 KiB.
func (g *Gap) String() string {
	short := *g
	short.Cause, short.Path = clip(g.Cause, 120), clip(g.Path, 200)
	b, err := json.Marshal(&short)
	if err != nil { // only a year beyond 9999 can do this
		short.Time = time.Time{}
		b, _ = json.Marshal(&short)
	}
	return string(b)
}

// clip keeps a gap's texts within the header: printable ASCII, at most n bytes.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) {
			return '?' // what JSON would escape, too: so the header's length is known
		}
		return r
	}, s)
}

// Decode takes a message apart and checks all that can be checked without knowing the
// log. Data aliases payload where that is plain. Every error wraps [ErrMalformed].
func (d *Decompressor) Decode(header map[string][]string, payload []byte) (*Chunk, error) {
	c := new(Chunk)
	r := reader{header: header}
	r.epoch(c)
	c.Position = r.number(HeaderPosition)
	c.Length = r.number(HeaderLength)
	c.Checksum = r.digest(HeaderChecksum)
	c.Digest = r.digest(HeaderDigest)
	c.Round = r.number(HeaderRound)
	offset := r.number(HeaderOffset)
	c.File = r.file()
	c.Gap = r.gap()
	c.Seal = r.seal(c)
	encoding, encoded := r.optional(HeaderEncoding)
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, r.err)
	}
	if offset > MaxPosition || c.Gap == nil && c.Length > MaxPosition-offset {
		return nil, fmt.Errorf("%w: %d bytes at offset %d end beyond %d", ErrMalformed, c.Length, offset, uint64(MaxPosition))
	}
	c.Offset = int64(offset)
	if c.Length == 0 {
		return nil, fmt.Errorf("%w: length 0", ErrMalformed)
	}
	if c.Position > MaxPosition || c.Length > MaxPosition-c.Position {
		return nil, fmt.Errorf("%w: %d bytes at position %d end beyond %d", ErrMalformed, c.Length, c.Position, uint64(MaxPosition))
	}
	if c.Gap != nil {
		if len(payload) != 0 || encoded || c.Checksum != 0 {
			return nil, fmt.Errorf("%w: a gap with a payload of %d bytes", ErrMalformed, len(payload))
		}
		return c, nil
	}
	if c.Length > MaxLength {
		return nil, fmt.Errorf("%w: length %d is over %d", ErrMalformed, c.Length, MaxLength)
	}
	c.Data = payload
	if encoded {
		var err error
		if c.Data, err = d.decompress(Encoding(encoding), payload, int(c.Length)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	if uint64(len(c.Data)) != c.Length {
		return nil, fmt.Errorf("%w: %d bytes, the header says %d", ErrMalformed, len(c.Data), c.Length)
	}
	if got := Sum(c.Data); got != c.Checksum {
		return nil, fmt.Errorf("%w: checksum %s, the header says %s", ErrMalformed, got, c.Checksum)
	}
	return c, nil
}

// reader collects the first error, so that Decode reads like the table of headers.
type reader struct {
	header map[string][]string
	err    error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) optional(name string) (string, bool) {
	v, ok := r.header[name]
	if ok && len(v) != 1 {
		r.fail("header %s stands %d times", name, len(v))
		return "", false
	}
	if !ok {
		return "", false
	}
	return v[0], true
}

func (r *reader) required(name string) string {
	v, ok := r.optional(name)
	if !ok {
		r.fail("header %s is missing", name)
	}
	return v
}

func (r *reader) number(name string) uint64 {
	n, err := parseUint(r.required(name))
	if err != nil {
		r.fail("header %s: %.40w", name, err)
	}
	return n
}

func (r *reader) digest(name string) Digest {
	d, err := ParseDigest(r.required(name))
	if err != nil {
		r.fail("header %s: %w", name, err)
	}
	return d
}

func (r *reader) epoch(c *Chunk) {
	v := r.required(HeaderEpoch)
	a, b, _ := strings.Cut(v, " ")
	var err, err2 error
	c.Epoch, err = parseUint(a)
	c.Predecessor, err2 = parseUint(b)
	if err != nil || err2 != nil || c.Epoch == 0 || c.Epoch > MaxPosition || c.Predecessor >= c.Epoch {
		r.fail("header %s: %.40q is no epoch and predecessor", HeaderEpoch, v)
	}
}

func (r *reader) file() string {
	v := r.required(HeaderFile)
	if err := CheckFile(v); err != nil {
		r.fail("header %s: %w", HeaderFile, err)
	}
	return v
}

// CheckFile tells whether a generation's id may go over the wire.
func CheckFile(id string) error {
	if len(id) > maxFile {
		return fmt.Errorf("generation id of %d bytes; at most %d", len(id), maxFile)
	}
	for i := 0; i < len(id); i++ {
		if id[i] <= ' ' || id[i] > '~' {
			return fmt.Errorf("generation id %q is not printable ASCII without spaces", id)
		}
	}
	return nil
}

func (r *reader) gap() *Gap {
	v, ok := r.optional(HeaderGap)
	if !ok {
		return nil
	}
	g := new(Gap)
	if len(v) > maxGap {
		r.fail("header %s has %d bytes; at most %d", HeaderGap, len(v), maxGap)
	} else if err := json.Unmarshal([]byte(v), g); err != nil {
		r.fail("header %s: %w", HeaderGap, err)
	} else if g.Cause == "" || g.Bytes < -1 {
		r.fail("header %s: a gap needs a cause and a number of bytes", HeaderGap)
	} else if _, err := g.Time.MarshalJSON(); err != nil { // it reads more than it writes, and the ledger's line couldn't be written, ever
		r.fail("header %s: %w", HeaderGap, err)
	}
	// What a node wrote goes into ledgers and onto terminals.
	g.Cause, g.Path = clip(g.Cause, 120), clip(g.Path, 200)
	return g
}

// seal is a chunk's seal. One that can't be right is left out, and no more: the bytes are what counts, and that they aren't sealed is seen.
func (r *reader) seal(c *Chunk) *Seal {
	v, ok := r.header[HeaderSeal]
	if !ok || len(v) != 1 || r.err != nil {
		return nil
	}
	s, err := ParseSeal(v[0])
	if err != nil {
		return nil
	}
	end := c.Position
	if c.Gap == nil {
		end += c.Length
	}
	if s.To != end {
		return nil
	}
	return s
}

// Compressor makes payloads of one encoding. It may be used by several goroutines.
type Compressor struct {
	encoding Encoding
	zstd     *zstd.Encoder
}

// NewCompressor makes a compressor; its memory is taken at first use.
func NewCompressor(encoding Encoding) (*Compressor, error) {
	switch encoding {
	case S2:
		return &Compressor{encoding: S2}, nil
	case Zstd:
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(512<<10))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return &Compressor{Zstd, enc}, nil
	}
	return nil, fmt.Errorf("encoding %q is not known", encoding)
}

// Compress appends data, compressed, to dst[:0], and tells the encoding. Plain: it isn't worth it, send data as it is;
// what is returned then is only memory for the next call.
func (c *Compressor) Compress(dst, data []byte) ([]byte, Encoding) {
	if len(data) < CompressFrom {
		return dst, Plain
	}
	var out []byte
	if c.encoding == S2 {
		out = s2.Encode(dst[:cap(dst)], data)
	} else {
		out = c.zstd.EncodeAll(data, dst[:0])
	}
	if len(out) >= len(data)-len(data)/16 {
		return out, Plain
	}
	return out, c.encoding
}

// Decompressor decodes chunks. It may be used by several goroutines.
type Decompressor struct{ dec *zstd.Decoder }

// NewDecompressor makes one that never gives more than [MaxLength] bytes.
func NewDecompressor() (*Decompressor, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxLength), zstd.WithDecoderMaxWindow(MaxLength))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &Decompressor{dec}, nil
}

// Close frees the decoder.
func (d *Decompressor) Close() { d.dec.Close() }

func (d *Decompressor) decompress(encoding Encoding, payload []byte, length int) ([]byte, error) {
	switch encoding {
	case S2:
		// Asked first: the block says how much it wants.
		n, err := s2.DecodedLen(payload)
		if err == nil && n != length {
			err = fmt.Errorf("%d bytes are in it, the header says %d", n, length)
		}
		if err != nil {
			return nil, fmt.Errorf("s2 payload of %d bytes: %w", len(payload), err)
		}
		out, err := s2.Decode(nil, payload)
		if err != nil {
			return nil, fmt.Errorf("s2 payload of %d bytes: %w", len(payload), err)
		}
		return out, nil
	case Zstd:
		out, err := d.dec.DecodeAll(payload, make([]byte, 0, length))
		if err != nil {
			return nil, fmt.Errorf("zstd payload of %d bytes: %w", len(payload), err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("encoding %.40q is not known", encoding)
}
