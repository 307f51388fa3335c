package control

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"logforward/internal/chunk"
)

// Limits of what a request may hold, in bytes.
const (
	MaxPath        = 4095
	MaxReason      = 512
	MaxDestination = 64
	maxName        = 256
	// MaxTTL is how long a request may be good for, in seconds: ids of changes are remembered for as long.
	MaxTTL = 3600
)

// CheckLog tells whether an operator may give a log this name: what the wire can carry
// ([chunk.CheckName]), as printable text, for it goes onto terminals and into file names.
func CheckLog(name string) error {
	if err := chunk.CheckName(name); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if err := printable(name); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if name != strings.TrimSpace(name) {
		return fmt.Errorf("log: name %.80q begins or ends with a space", name)
	}
	return nil
}

// CheckPath tells whether a path can be one: absolute, without "..", ".", "//" or a slash
// at its end, printable, and a well-formed glob if it is one. Whether it may be
// forwarded is the node's to say.
func CheckPath(path string) error {
	switch {
	case path == "":
		return fmt.Errorf("path is empty")
	case len(path) > MaxPath:
		return fmt.Errorf("path of %d bytes; at most %d", len(path), MaxPath)
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("path %.80q is not absolute", path)
	}
	if err := printable(path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if clean := filepath.Clean(path); clean != path {
		return fmt.Errorf("path %.200q is not clean; do you mean %.200q?", path, clean)
	}
	if path == "/" {
		return fmt.Errorf("path / is a directory")
	}
	if !doublestar.ValidatePattern(path) {
		return fmt.Errorf("path %.200q is a broken glob", path)
	}
	return nil
}

// CheckDestination tells whether a destination may have this name: A-Z a-z 0-9 _ -, at most 64. What it is instead
// isn't quoted: a URL may have a password in it, and errors are shown to whoever looks at status.
func CheckDestination(name string) error {
	if name == "" || len(name) > MaxDestination {
		return fmt.Errorf("destination: name of %d bytes; 1 to %d", len(name), MaxDestination)
	}
	for i, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return fmt.Errorf("destination: a name holds letters, digits, _ and - only, not %q at byte %d (destinations are chosen by name, never by URL)", name[i:i+1], i)
		}
	}
	return nil
}

// CheckStart tells whether s says where to begin.
func CheckStart(s string) error {
	if s != "" && s != "end" && s != "beginning" {
		return fmt.Errorf(`start %.40q: want "end" or "beginning"`, s)
	}
	return nil
}

// Check is the one place where a start request is validated; the node may rely on it.
func (r StartRequest) Check() error {
	if err := CheckLog(r.Log); err != nil {
		return err
	}
	if r.Path != "" {
		if err := CheckPath(r.Path); err != nil {
			return err
		}
	} else if r.Destination != "" || r.Start != "" || r.Rate != nil {
		return fmt.Errorf("path is missing: destination, start and rate belong to a path; without one, start lifts a stop")
	}
	if r.Destination != "" {
		if err := CheckDestination(r.Destination); err != nil {
			return err
		}
	}
	if err := CheckStart(r.Start); err != nil {
		return err
	}
	if r.Rate != nil && (*r.Rate < 0 || *r.Rate > MaxRate) {
		return fmt.Errorf("rate %d: 0 to %d bytes/s", *r.Rate, int64(MaxRate))
	}
	return checkWhy(r.For, r.Reason)
}

// Check validates a stop request.
func (r StopRequest) Check() error {
	if err := CheckLog(r.Log); err != nil {
		return err
	}
	return checkWhy(r.For, r.Reason)
}

// Check validates a pause request.
func (r PauseRequest) Check() error { return checkOneOrAll(r.Log, r.All, r.For, r.Reason) }

// Check validates a resume request.
func (r ResumeRequest) Check() error {
	if r.All && r.For != 0 {
		return fmt.Errorf("for: a resume of all has no end; pause again instead")
	}
	return checkOneOrAll(r.Log, r.All, r.For, r.Reason)
}

// Check validates a redirect request.
func (r RedirectRequest) Check() error {
	if err := CheckLog(r.Log); err != nil {
		return err
	}
	if err := CheckDestination(r.Destination); err != nil {
		return err
	}
	return checkWhy(0, r.Reason)
}

// Check validates a status request.
func (r StatusRequest) Check() error {
	if r.Log == "" {
		return nil
	}
	return CheckLog(r.Log)
}

func checkOneOrAll(log string, all bool, f Duration, reason string) error {
	if all == (log != "") {
		return fmt.Errorf("log: give either one log or all")
	}
	if !all {
		if err := CheckLog(log); err != nil {
			return err
		}
	}
	return checkWhy(f, reason)
}

func checkWhy(f Duration, reason string) error {
	if f < 0 || f > Duration(MaxDuration) {
		return fmt.Errorf("for: %d ns is no duration of at most ten years", int64(f))
	}
	if len(reason) > MaxReason {
		return fmt.Errorf("reason of %d bytes; at most %d", len(reason), MaxReason)
	}
	if err := printable(reason); err != nil {
		return fmt.Errorf("reason: %w", err)
	}
	return nil
}

// Check tells whether this can be a caller that came by Choria. Names are compared byte for byte: one that
// looks like another, or would be another once spaces are cut off, must not get here.
func (c Caller) Check() error {
	if strings.HasPrefix(c.Name, LocalCaller) {
		return Errorf(CodeRefused, "%.80q is a user of this machine, whom only the kernel names", c.Name)
	}
	if c.Name == "" {
		return Errorf(CodeInvalid, "the request doesn't say who asks")
	}
	for what, text := range map[string]string{"caller": c.Name, "request": c.RequestID, "collective": c.Collective} {
		if len(text) > maxName {
			return Errorf(CodeInvalid, "%s of %d bytes; at most %d", what, len(text), maxName)
		}
		if err := printable(text); err != nil {
			return Errorf(CodeInvalid, "%s: %v", what, err)
		}
		if strings.ContainsRune(text, utf8.RuneError) {
			return Errorf(CodeInvalid, "%s %.80q: something in it was no UTF-8", what, text)
		}
		if text != strings.TrimSpace(text) {
			return Errorf(CodeInvalid, "%s %.80q begins or ends with a space", what, text)
		}
	}
	if c.TTL < 0 || c.TTL > MaxTTL {
		return Errorf(CodeInvalid, "a time to live of %d s; at most %d", c.TTL, MaxTTL)
	}
	return nil
}

// printable refuses what could play with a terminal, a log line or a file name: control
// and format characters (bidirectional ones too), line separators, and broken UTF-8.
func printable(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%.80q is not UTF-8", s)
	}
	for i, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%.80q holds the character %U at byte %d, which can't be printed", s, c, i)
		}
	}
	return nil
}
