package chunk

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// MaxToken is the most bytes that the token of an identity or a log may have: a
// file name of Linux (255) less room for a receiver's and a rotation's suffix.
const MaxToken = 190

const upperHex = "0123456789ABCDEF"

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Token encodes an identity or log name for a subject. It takes any bytes; use
// [CheckName] to know whether the other side will accept them.
func Token(name string) string { return escape(name, plain) }

// FileName is the name as one path element that a person can read: like [Token], but the
// dot stands for itself. It is one-to-one for names that pass [CheckName], and never
// holds "@", "/" or a control character.
func FileName(name string) string {
	return escape(name, func(c byte) bool { return plain(c) || c == '.' })
}

func escape(name string, keep func(byte) bool) string {
	extra := 0
	for i := 0; i < len(name); i++ {
		if !keep(name[i]) {
			extra += 2
		}
	}
	if extra == 0 {
		return name
	}
	b := make([]byte, 0, len(name)+extra)
	for i := 0; i < len(name); i++ {
		if c := name[i]; keep(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

// ParseToken decodes a token. It refuses every form that [Token] doesn't write
// and every name that [CheckName] refuses.
func ParseToken(token string) (string, error) {
	if len(token) > MaxToken {
		return "", fmt.Errorf("token of %d bytes is longer than %d", len(token), MaxToken)
	}
	name, err := unescape(token)
	if err != nil {
		return "", err
	}
	return name, CheckName(name)
}

func unescape(token string) (string, error) {
	if strings.IndexByte(token, '=') < 0 {
		for i := 0; i < len(token); i++ {
			if !plain(token[i]) {
				return "", fmt.Errorf("token %q has the byte %q at %d", token, token[i], i)
			}
		}
		return token, nil
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plain(c) {
			b = append(b, c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("token %q is broken at %d", token, i)
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("token %q has no upper-case hex at %d", token, i+1)
		}
		d := byte(hi<<4 | lo)
		if plain(d) {
			return "", fmt.Errorf("token %q encodes %q, which stands for itself", token, d)
		}
		b = append(b, d)
		i += 2
	}
	return string(b), nil
}

// CheckName tells whether a name may be an identity or a log: not empty, not "."
// or "..", no "/" and no NUL, and its token at most [MaxToken] bytes.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("name %.40q is a directory", name)
	case strings.IndexByte(name, '/') >= 0:
		return fmt.Errorf("name %.40q holds a path separator", name)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name %.40q holds a NUL", name)
	}
	if n := len(Token(name)); n > MaxToken {
		return fmt.Errorf("name %.40q… is %d bytes long as a token; at most %d", name, n, MaxToken)
	}
	return nil
}

// Subject says whose and which log a chunk belongs to.
type Subject struct {
	Prefix    string
	Partition int
	Identity  string // decoded
	Log       string // decoded
}

func (s Subject) String() string {
	return s.Prefix + "." + strconv.Itoa(s.Partition) + "." + Token(s.Identity) + "." + Token(s.Log)
}

// NodeSubjects are the subjects of all logs of a node in one partition.
func NodeSubjects(prefix string, partition int, identity string) string {
	return prefix + "." + strconv.Itoa(partition) + "." + Token(identity) + ".*"
}

// CheckPrefix allows one or more plain tokens. The prefix takes part in every subject, so a wildcard or a "$" would reach into
// what isn't ours.
func CheckPrefix(prefix string) error {
	if prefix == "" || len(prefix) > 128 {
		return fmt.Errorf("prefix %.130q must have 1 to 128 characters", prefix)
	}
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" {
			return fmt.Errorf("prefix %q has an empty part", prefix)
		}
		for i := range len(token) {
			if !plain(token[i]) {
				return fmt.Errorf("prefix %q: only letters, digits, _ and - between dots are possible", prefix)
			}
		}
	}
	return nil
}

// ParseSubject takes a chunk's subject apart. The partition isn't compared with the
// identity's: during a change of layout both the old and the new one are right.
func ParseSubject(prefix, subject string) (Subject, error) {
	rest, ok := strings.CutPrefix(subject, prefix+".")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return Subject{}, fmt.Errorf("subject %q: want %s.<partition>.<identity>.<log>", subject, prefix)
	}
	p, err := parseUint(parts[0])
	if err != nil || p > 1<<16 {
		return Subject{}, fmt.Errorf("subject %q: %q is no partition", subject, parts[0])
	}
	identity, err := ParseToken(parts[1])
	if err != nil {
		return Subject{}, fmt.Errorf("subject %q: identity: %w", subject, err)
	}
	log, err := ParseToken(parts[2])
	if err != nil {
		return Subject{}, fmt.Errorf("subject %q: log: %w", subject, err)
	}
	return Subject{Prefix: prefix, Partition: int(p), Identity: identity, Log: log}, nil
}

// Partition is the partition of an identity's logs in a layout of n partitions:
// FNV-1a 32 modulo n, as NATS computes it in subject transforms.
func Partition(identity string, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(identity))
	return int(h.Sum32() % uint32(n))
}

// SyncSubject is where a node says hello. With "*" as identity it is what receivers listen on.
func SyncSubject(prefix, identity string) string {
	if identity != "*" {
		identity = Token(identity)
	}
	return prefix + ".sync." + identity + ".hello"
}

// ParseSyncSubject gives the identity that says hello.
func ParseSyncSubject(prefix, subject string) (string, error) {
	rest, ok := strings.CutPrefix(subject, prefix+".sync.")
	token, ok2 := strings.CutSuffix(rest, ".hello")
	if !ok || !ok2 {
		return "", fmt.Errorf("subject %q: want %s.sync.<identity>.hello", subject, prefix)
	}
	return ParseToken(token)
}

// ControlSubject is where a node listens for [Control] on plain NATS.
func ControlSubject(prefix, identity string) string { return prefix + ".control." + Token(identity) }

func parseUint(s string) (uint64, error) {
	if s == "" || len(s) > 1 && s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	return n, nil
}
