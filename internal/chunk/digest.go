package chunk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/minio/crc64nvme"
)

// Digest is a CRC-64/NVME: a chunk's checksum, or the running digest of an
// epoch. As text it is 16 lower-case hex digits.
type Digest uint64

// Sum is the digest of b.
func Sum(b []byte) Digest { return Digest(crc64nvme.Checksum(b)) }

// Update is the digest behind b, where d is the digest before it.
func (d Digest) Update(b []byte) Digest { return Digest(crc64nvme.Update(uint64(d), b)) }

// Extend is the digest behind n bytes whose own digest is sum, where d is the
// digest before them. It costs about a microsecond, whatever n is.
func (d Digest) Extend(sum Digest, n uint64) Digest {
	return Digest(multiply(power(n), uint64(d))) ^ sum
}

// AfterGap is the running digest behind a gap that ends at position end.
func AfterGap(end uint64) Digest {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], end)
	return Sum(b[:])
}

func (d Digest) String() string { return string(d.hex()) }

func (d Digest) hex() []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(d))
	return hex.AppendEncode(make([]byte, 0, 16), b[:])
}

// MarshalText writes 16 hex digits.
func (d Digest) MarshalText() ([]byte, error) { return d.hex(), nil }

// UnmarshalText takes what MarshalText writes and nothing else.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDigest takes exactly 16 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d uint64
	wrong := len(s) != 16
	for i := 0; i < len(s) && !wrong; i++ {
		digit := strings.IndexByte("0123456789abcdef", s[i])
		d, wrong = d<<4|uint64(digit), digit < 0
	}
	if wrong {
		return 0, fmt.Errorf("%.40q is no digest of 16 lower-case hex digits", s)
	}
	return Digest(d), nil
}

// The arithmetic of polynomials over GF(2) modulo the CRC's polynomial, bits
// reflected, as in zlib's crc32_combine (Mark Adler) with 64 bits for 32.

// nvme is the reflected polynomial of CRC-64/NVME (NVM Express specification).
const nvme = 0x9a6c9329ac4bc9b5

// powers[k] is x^(8·2^k).
var powers = func() (t [64]uint64) {
	p := uint64(1) << 62 // x^1
	for range 3 {
		p = multiply(p, p)
	}
	for k := range t {
		t[k] = p
		p = multiply(p, p)
	}
	return t
}()

func multiply(a, b uint64) (p uint64) {
	for m := uint64(1) << 63; m != 0; m >>= 1 {
		if a&m != 0 {
			p ^= b
			if a&(m-1) == 0 {
				break
			}
		}
		if b&1 != 0 {
			b = b>>1 ^ nvme
		} else {
			b >>= 1
		}
	}
	return p
}

// power is x^(8n).
func power(n uint64) uint64 {
	p := uint64(1) << 63 // x^0
	for k := 0; n != 0; k++ {
		if n&1 != 0 {
			p = multiply(powers[k], p)
		}
		n >>= 1
	}
	return p
}
