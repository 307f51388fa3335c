package receive

import (
	"bufio"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// SealKeys are the keys that the nodes of some identities sign with, and no others.
type SealKeys map[string][]ed25519.PublicKey

// maxKeyLine is more than an identity and a key have bytes.
const maxKeyLine = 4 << 10

// ReadSealKeys reads a file of keys, as [ParseSealKeys] does.
func ReadSealKeys(path string) (SealKeys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal keys: %w", err)
	}
	defer f.Close()
	keys, err := ParseSealKeys(f)
	if err != nil {
		return nil, fmt.Errorf("seal keys %s: %w", path, err)
	}
	return keys, nil
}

// ParseSealKeys reads lines of an identity, spaces, and a public key of 64 hex digits, as logforward seal-key prints it. An identity may have several
// lines: keys that were changed. Empty lines don't count, nor those that begin with #. Errors name the line.
func ParseSealKeys(from io.Reader) (SealKeys, error) {
	keys := make(SealKeys)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxKeyLine)
	n := 0
	for lines.Scan() {
		n++
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) > 2 && strings.HasPrefix(f[2], "#") {
			f = f[:2]
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("line %d: %d words; want an identity and its key", n, len(f))
		}
		key, err := hex.DecodeString(f[1])
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("line %d: the key of %.100q is not %d hex digits: %.80q", n, f[0], hex.EncodedLen(ed25519.PublicKeySize), f[1])
		}
		keys[f[0]] = append(keys[f[0]], key)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is longer than %d bytes: want an identity and its key", n+1, maxKeyLine)
	} else if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it; want lines of an identity and its key, as logforward seal-key prints them")
	}
	return keys, nil
}
