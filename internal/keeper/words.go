package keeper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	maxLog   = 2 << 20 // bytes of the daemon's log, from which on it is cut
	maxWords = 600     // bytes of a reason
	lines    = 5       // of a reason
)

// cut keeps the daemon's log small: a copy of it is kept, and it begins anew. A daemon writes at its end,
// wherever that is. It gives the size.
func (k *Keeper) cut() int64 {
	name := filepath.Join(k.config.Dir, daemonLog)
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < maxLog {
		if err != nil {
			return 0
		}
		return info.Size()
	}
	old, err := os.OpenFile(name+".1", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err == nil {
		_, err = io.Copy(old, io.NewSectionReader(f, info.Size()-maxLog/2, maxLog/2))
		err = errors.Join(err, old.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		return info.Size()
	}
	k.record.Begun.Offset = 0
	return 0
}

// lastWords are what the daemon said last since its start, and how it ended, on one line.
func (k *Keeper) lastWords(ctx context.Context) string {
	if k.unit(ctx) {
		return k.unitWords(ctx)
	}
	// The daemon is gone a moment before its waiter says how it ended.
	ctx, cancel := context.WithTimeout(ctx, wordTime)
	defer cancel()
	var b []byte
	until(ctx, func() bool {
		b = k.said()
		return ended.Match(b)
	})
	return words(b, noWord)
}

const noWord = "it left no word"

// ended is the waiter's word, at the end of what was said.
var ended = regexp.MustCompile(`logforward: the daemon ended with status \d+\n$`)

// said is the end of what the daemon wrote to its log since its start; nothing where that can't be read.
func (k *Keeper) said() []byte {
	f, err := os.OpenFile(filepath.Join(k.config.Dir, daemonLog), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	from := max(k.record.Begun.Offset, info.Size()-16<<10)
	b, err := io.ReadAll(io.NewSectionReader(f, from, 16<<10))
	if err != nil {
		return nil
	}
	return b
}

// words are the last lines of a text, made fit for one line anywhere; none where there are none.
func words(b []byte, none string) string {
	all := strings.Split(strings.TrimSpace(string(bytes.ToValidUTF8(b, []byte("?")))), "\n")
	all = all[max(0, len(all)-lines):]
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.Join(all, " | "))
	if text = strings.TrimSpace(text); text == "" {
		return none
	}
	if cut := len(text) - maxWords; cut > 0 {
		text = "…" + strings.ToValidUTF8(text[cut:], "")
	}
	return text
}

// fingerprint tells whether anything changed that is reason to try again.
func (k *Keeper) fingerprint() string {
	h := sha256.New()
	for _, path := range append([]string{k.config.Program}, k.config.Watched...) {
		print(h, path)
		entries, err := os.ReadDir(path)
		if err != nil {
			continue
		}
		for _, e := range entries {
			print(h, filepath.Join(path, e.Name()))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func print(w io.Writer, path string) {
	info, err := os.Stat(path)
	if err != nil {
		fmt.Fprintf(w, "%q none\n", path)
		return
	}
	s := info.Sys().(*syscall.Stat_t)
	fmt.Fprintf(w, "%q %d %d %d %d\n", path, s.Ino, info.Size(), info.ModTime().UnixNano(), info.Mode()&fs.ModeType)
}

// forgive forgets that the daemon failed, where there is a new reason to try.
func (k *Keeper) forgive() {
	f := k.record.Failed
	if f == nil {
		return
	}
	if k.record.Watched != k.fingerprint() || k.config.Again > 0 && k.since(f.Time) >= k.config.Again {
		k.retry()
	}
}

// retry lets the next start be the first again.
func (k *Keeper) retry() {
	k.record.Failed, k.record.Attempts, k.record.NotBefore, k.record.Lost = nil, 0, time.Time{}, ""
}

func (k *Keeper) failed() Observation {
	return Observation{State: Failed, Reason: k.record.Failed.Reason}
}
