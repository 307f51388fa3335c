package forward

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/seed"
)

// Where a destination's logs are sealed, the node signs what it sends. The state of a log's block follows the flight: each chunk that is published, for the first time or again, or
// read past because the centre has it, brings the state before it to its end, by the bytes in hand. They are known to be those of its positions, for
// what is read again is compared with its checksum. Where the state before a chunk isn't known a new block begins: bytes without a seal are honest, a wrong seal isn't.
//
// What isn't sealed though it was sent: the part of a block behind its last seal where a new epoch begins, the log moves to another destination, or the node's state is lost.

// block is the block of a log at a position: that of a chunk's end, or confirmed.
type block struct {
	from uint64     // where it begins
	prev chunk.Hash // ID of the seal that ends at from, or where the gap before from begins, and was sent; zero: there is none
	sum  []byte     // state of the SHA-256 of the bytes from there on; nil: of none
	// to and id are of the seal that the chunk carried, zero where it carried none. A gap's ends where the gap begins.
	to uint64
	id chunk.Hash
}

// The Go library's marshalled state of a SHA-256 ends with the number of bytes that are in it.
const sumLength = 8

// reaches tells whether the block is one of the bytes up to a position, and no others.
func (b *block) reaches(position uint64) bool {
	if b.sum == nil {
		return b.from == position
	}
	return len(b.sum) > sumLength && b.from < position && binary.BigEndian.Uint64(b.sum[len(b.sum)-sumLength:]) == position-b.from
}

// extended is the block with data behind it.
func (b *block) extended(data []byte) (*block, error) {
	h := sha256.New()
	if b.sum != nil {
		if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b.sum); err != nil {
			return nil, err
		}
	}
	h.Write(data)
	sum, err := h.(encoding.BinaryAppender).AppendBinary(make([]byte, 0, 128))
	if err != nil {
		return nil, err
	}
	return &block{from: b.from, prev: b.prev, sum: sum}, nil
}

// hash is the SHA-256 of the block's bytes.
func (b *block) hash() (sum chunk.Hash, err error) {
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b.sum); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// mark says what was decided about a chunk's seal when it was first published. It stays so: the ends of blocks don't move when chunks go out again.
type mark uint8

const (
	undecided mark = iota
	unsealed
	sealedThere // it carries a seal, and the block goes on
	blockEnd    // it carries a seal, and ends the block
)

// blockBefore is the block where chunk i begins.
func (f *flight) blockBefore(i int) *block {
	b := f.block
	if i > 0 {
		b = f.chunks[i-1].block
	}
	if position := f.chunks[i].position; b == nil || !b.reaches(position) {
		return &block{from: position}
	}
	return b
}

// pass brings the block over chunk i without a seal. A block doesn't end there: nothing names what wasn't sent.
func (f *flight) pass(i int, data []byte) {
	c := &f.chunks[i]
	c.block = nil
	if c.gap == nil {
		// The library doesn't fail at what it has written itself. If it does, a new block begins.
		c.block, _ = f.blockBefore(i).extended(data)
	}
}

// lastSealed are the end and ID of the last seal that chunks below position carried.
func (f *flight) lastSealed(position uint64) (to uint64, id chunk.Hash) {
	for i := f.at(position) - 1; i >= 0; i-- {
		if b := f.chunks[i].block; b != nil && b.to > 0 {
			return b.to, b.id
		}
	}
	return 0, id
}

// seal brings the block over chunk i, which is about to be published with data, and gives the seal that it carries; nil: none.
func (f *forwarder) seal(i int, data []byte) *chunk.Seal {
	c := &f.flight.chunks[i]
	b := f.flight.blockBefore(i)
	if c.gap != nil {
		after := &block{from: c.end()}
		if b.from == c.position { // the last seal ends here, or where the gap before this one begins
			after.prev = b.prev
			c.block = after
			return nil
		}
		s := f.sign(b, c.position)
		if s != nil {
			after.to, after.id = s.To, s.ID(f.sealOf())
			after.prev = after.id
		}
		c.block = after
		return s
	}
	f.flight.pass(i, data)
	b = c.block
	if b == nil {
		return nil
	}
	if c.seals == undecided && f.signer.ready() {
		// Of what an earlier run may have sent the receiver may take that run's chunks, and not those with the same bytes that end this run's blocks. So none ends there:
		// the seal that comes behind it is of all of it.
		switch {
		case c.end()-b.from >= f.engine.cfg.Limits.SealBlock && c.end() > f.former:
			c.seals = blockEnd
		case c.last:
			c.seals = sealedThere
		default:
			c.seals = unsealed
		}
	}
	if c.seals != sealedThere && c.seals != blockEnd {
		return nil
	}
	s := f.sign(b, c.end())
	if s == nil {
		return nil
	}
	b.to, b.id = s.To, s.ID(f.sealOf())
	if c.seals == blockEnd {
		c.block = &block{from: c.end(), prev: b.id, to: b.to, id: b.id}
	}
	return s
}

func (f *forwarder) sealOf() chunk.SealOf {
	return chunk.SealOf{Identity: f.engine.cfg.Identity, Log: f.want.Name, Epoch: f.rec.Epoch}
}

// sign makes the seal of a block up to a position, which is one of its bytes' end; nil: there is no key, or it isn't.
func (f *forwarder) sign(b *block, to uint64) *chunk.Seal {
	key, err := f.signer.get()
	if err != nil || b.sum == nil || !b.reaches(to) {
		return nil
	}
	sum, err := b.hash()
	if err != nil {
		return nil
	}
	s := &chunk.Seal{From: b.from, To: to, Prev: b.prev, Sum: sum}
	s.Sign(f.sealOf(), key, f.engine.cfg.Now())
	f.stats.sealed()
	return s
}

// Sealed is the last seal of a log whose bytes the centre has confirmed. The zero value: there is none.
type Sealed struct {
	Epoch    uint64     `json:"epoch"`
	Position uint64     `json:"position"` // its end
	ID       chunk.Hash `json:"id"`
}

// sealing is where a log's seals stand, in its checkpoint: the block at Confirmed. Versions that don't know it leave it out, and then a new block begins.
type sealing struct {
	From uint64     `json:"from"`
	Prev chunk.Hash `json:"prev"`
	Sum  []byte     `json:"sum,omitempty"` // marshalled SHA-256
	Last Sealed     `json:"last"`
}

// blockAtConfirmed is what the checkpoint has of the block; nil where the destination isn't one that is sealed.
func (f *forwarder) blockAtConfirmed() *sealing {
	if f.signer == nil {
		return nil
	}
	s := &sealing{From: f.flight.start, Last: f.sealed}
	if b := f.flight.block; b != nil {
		s.From, s.Prev, s.Sum = b.from, b.prev, b.sum
	}
	return s
}

// restoreBlock goes on with the block of the checkpoint.
func (f *forwarder) restoreBlock() {
	f.sealed = Sealed{}
	if f.signer == nil || f.rec.Seal == nil {
		return
	}
	f.sealed = f.rec.Seal.Last
	b := &block{from: f.rec.Seal.From, prev: f.rec.Seal.Prev, sum: f.rec.Seal.Sum}
	if len(b.sum) == 0 {
		b.sum = nil
	}
	_, err := b.extended(nil)
	if err != nil || !b.reaches(f.rec.Confirmed) {
		f.log.Warn("the checkpoint's seal doesn't fit its position; a new block begins", "position", f.rec.Confirmed, "from", b.from, "error", err)
		return
	}
	f.flight.block = b
}

// signer has the node's key, as soon as it can be had. Forwarding never waits for that: what goes out meanwhile goes unsealed, and the first seal after it covers it.
type signer struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	key     ed25519.PrivateKey // once it is there it stays until the process ends
	err     error
	next    time.Time     // of the next try
	loading chan struct{} // closed when the try that is under way ends; nil: none is
}

// errLoading is why there is no key while it is read: the file may be on a file system that doesn't answer.
var errLoading = errors.New("the key is being read")

// keyWait is how long a start waits for the key.
const keyWait = 2 * time.Second

// keyEvery is how often a key that can't be had is tried again.
const keyEvery = 5 * time.Second

func newSigner(c *Config, log *slog.Logger) *signer {
	path := c.SealKey
	if path == "" {
		path = filepath.Join(c.State.dir, SealKeyFile)
	}
	return &signer{path: path, log: log}
}

// get is the key, or why there is none. It doesn't wait for a disk.
func (s *signer) get() (ed25519.PrivateKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil && s.loading == nil && !time.Now().Before(s.next) {
		s.loading = make(chan struct{})
		go s.load(s.loading)
	}
	if s.key == nil && s.err == nil {
		return nil, errLoading
	}
	return s.key, s.err
}

// wait gives the first try some time.
func (s *signer) wait() {
	s.get()
	s.mu.Lock()
	loading := s.loading
	s.mu.Unlock()
	if loading == nil {
		return
	}
	select {
	case <-loading:
	case <-time.After(keyWait):
	}
}

func (s *signer) load(done chan struct{}) {
	key, made, err := seed.LoadOrMake(s.path)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(done)
	s.loading, s.next = nil, time.Now().Add(keyEvery)
	if err != nil {
		if s.err == nil || s.err.Error() != err.Error() {
			s.log.Error("there is no key to seal logs with: they go out unsealed until there is one", "seal_key", s.path, "error", err)
		}
		s.err = err
		return
	}
	s.key, s.err = key, nil
	s.log.Info("logs are sealed", "seal_key", s.path, "public key", chunk.Hash(key.Public().(ed25519.PublicKey)), "new", made)
}

func (s *signer) ready() bool {
	_, err := s.get()
	return err == nil
}
