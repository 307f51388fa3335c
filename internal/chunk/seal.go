package chunk

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// HeaderSeal is the optional header of a chunk that carries a [Seal].
const HeaderSeal = "Lf-Seal"

// SealBlock is the number of positions behind which a block ends, at the end of the chunk that reaches it.
const SealBlock = 1 << 20

// sealed begins what is signed, so that a signature can't be one of something else that the key signs.
const sealed = "logforward seal 1\n"

// Hash is a SHA-256. As text it is 64 lower-case hex digits.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText takes what MarshalText writes and nothing else.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], string(b)) }

// Seal is a node's signed word about the bytes of the positions [From, To) of a log's epoch: a block, or the part of one that there is so far, and then a
// later seal with the same From takes its place. No gap lies between From and To. The next block begins at To, or behind the gap that begins there, and names
// this one in Prev. So whoever knows one seal, or has kept its ID elsewhere, can prove all that the node sealed before.
type Seal struct {
	From      uint64
	To        uint64
	Prev      Hash      // ID of the last seal of the block before; zero: there is none, or the node lost its memory of it
	Sum       Hash      // SHA-256 of the bytes
	Time      time.Time // when the node signed, to the second, by its clock
	Key       ed25519.PublicKey
	Signature []byte
}

// SealOf is the log and epoch that a seal speaks of. They aren't in the seal, but in what is signed.
type SealOf struct {
	Identity, Log string
	Epoch         uint64
}

// body is what ID and signature are made of: everything of fixed length, or with its length before it.
func (s *Seal) body(of SealOf) []byte {
	b := append(make([]byte, 0, 256), sealed...)
	for _, text := range []string{of.Identity, of.Log} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	for _, n := range []uint64{of.Epoch, s.From, s.To} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = append(b, s.Prev[:]...)
	return append(b, s.Sum[:]...)
}

// ID names what the seal says, whenever and by whichever key it was signed.
func (s *Seal) ID(of SealOf) Hash { return sha256.Sum256(s.body(of)) }

func (s *Seal) signed(of SealOf) []byte {
	return binary.BigEndian.AppendUint64(s.body(of), uint64(s.Time.Unix()))
}

// Sign signs the seal at a time.
func (s *Seal) Sign(of SealOf, key ed25519.PrivateKey, now time.Time) {
	s.Time = now.UTC().Truncate(time.Second)
	s.Key = key.Public().(ed25519.PublicKey)
	s.Signature = ed25519.Sign(key, s.signed(of))
}

// ErrSeal: the seal isn't signed by the key that it names, or not for this log, epoch and range.
var ErrSeal = errors.New("signature doesn't fit")

// Check says whether the seal's own key signed it. Whose key that is somebody else must know.
func (s *Seal) Check(of SealOf) error {
	if len(s.Key) != ed25519.PublicKeySize || len(s.Signature) != ed25519.SignatureSize || !ed25519.Verify(s.Key, s.signed(of), s.Signature) {
		return ErrSeal
	}
	return nil
}

// String is the seal as it stands in the header: seven fields with a space between each.
//
//	from to time prev sum key signature
//
// Numbers are decimal, the time in seconds since 1970; the others are hex in lower case.
func (s *Seal) String() string {
	return strings.Join([]string{
		strconv.FormatUint(s.From, 10), strconv.FormatUint(s.To, 10), strconv.FormatInt(s.Time.Unix(), 10),
		s.Prev.String(), s.Sum.String(), hex.EncodeToString(s.Key), hex.EncodeToString(s.Signature),
	}, " ")
}

// ParseSeal takes what String writes and nothing else. It doesn't look at the signature.
func ParseSeal(text string) (*Seal, error) {
	f := strings.Split(text, " ")
	if len(f) != 7 {
		return nil, fmt.Errorf("a seal has 7 fields, not %d", len(f))
	}
	s := &Seal{Key: make([]byte, ed25519.PublicKeySize), Signature: make([]byte, ed25519.SignatureSize)}
	var seconds uint64
	for i, to := range []*uint64{&s.From, &s.To, &seconds} {
		n, err := parseUint(f[i])
		if err != nil {
			return nil, fmt.Errorf("seal: %.40w", err)
		}
		*to = n
	}
	for i, to := range [][]byte{s.Prev[:], s.Sum[:], s.Key, s.Signature} {
		if err := unhex(to, f[3+i]); err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
	}
	if s.From >= s.To || s.To > MaxPosition {
		return nil, fmt.Errorf("seal: from %d to %d can't be", s.From, s.To)
	}
	if seconds > 1<<37 { // the year 6325: whatever is written of it stays a time that JSON can have
		return nil, fmt.Errorf("seal: %d seconds since 1970 are no time", seconds)
	}
	s.Time = time.Unix(int64(seconds), 0).UTC()
	return s, nil
}

// MarshalJSON writes the text of String.
func (s *Seal) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON takes what MarshalJSON writes.
func (s *Seal) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	p, err := ParseSeal(text)
	if err == nil {
		*s = *p
	}
	return err
}

// unhex takes exactly as many bytes as to has, in lower-case hex.
func unhex(to []byte, text string) error {
	if len(text) != hex.EncodedLen(len(to)) || strings.ToLower(text) != text {
		return fmt.Errorf("%.20q is not %d lower-case hex digits", text, hex.EncodedLen(len(to)))
	}
	_, err := hex.Decode(to, []byte(text))
	return err
}
