// Package logrotate tells into which directories logrotate's configuration has a log's rotated files moved (olddir).
//
// It reads no more of the configuration than that takes: include, olddir and noolddir, and for which files. Files that
// logrotate wouldn't include (tabooext) are read as well: a directory too many costs a listing, one too few loses a log's bytes. What
// others than root can write isn't believed, as logrotate doesn't.
package logrotate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"logforward/internal/trust"
)

const (
	fileMax    = 1 << 20 // bytes of one file
	filesMax   = 1000    // of all includes
	includeMax = 10      // includes within one another
	// fresh is how long what was read counts: ten thousand logs that are rotated at once read it once.
	fresh = time.Second
)

// Reader reads a configuration again where it is older than a second. Safe for concurrent use.
type Reader struct {
	path   string
	logger *slog.Logger

	mu    sync.Mutex
	read  time.Time
	rules []rule
	said  string // the trouble that was logged last
}

// rule is an olddir and whose it is.
type rule struct {
	patterns []string
	olddir   string
}

// New returns a reader of the configuration at path; a nil logger logs nothing.
func New(path string, logger *slog.Logger) *Reader {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Reader{path: path, logger: logger}
}

// Olddirs returns the directories that the rotated files of a log with this absolute path are moved into, with links as they stand
// there. Nil without a configuration.
func (r *Reader) Olddirs(path string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.read.IsZero() || now.Sub(r.read) >= fresh {
		var err error
		r.rules, err = parse(r.path)
		r.read = now
		said := ""
		if err != nil {
			said = err.Error()
		}
		if said != "" && said != r.said {
			r.logger.Warn("logrotate's configuration can't be read whole; rotated files are looked for without what is missing of it", "error", err)
		}
		r.said = said
	}
	var dirs []string
	for _, rule := range r.rules {
		if !slices.ContainsFunc(rule.patterns, func(p string) bool { ok, err := filepath.Match(p, path); return err == nil && ok }) {
			continue
		}
		dir := rule.olddir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(filepath.Dir(path), dir)
		}
		if dir = filepath.Clean(dir); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// parser is a configuration being read. logrotate takes over into a block what was said before it.
type parser struct {
	olddir string // that holds outside of blocks from here on
	files  int
	rules  []rule
	errs   []error
}

func parse(path string) ([]rule, error) {
	p := &parser{}
	p.include(path, 0)
	return p.rules, errors.Join(p.errs...)
}

// include reads a file, or all of a directory.
func (p *parser) include(path string, depth int) {
	if depth > includeMax || p.files >= filesMax {
		p.errs = append(p.errs, fmt.Errorf("include %s: too many files, or too deep", path))
		return
	}
	p.files++
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would block
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = trust.Check(info)
	}
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", path, err))
		return
	}
	if info.IsDir() {
		names, err := f.Readdirnames(filesMax)
		if err != nil && err != io.EOF {
			p.errs = append(p.errs, err)
		}
		slices.Sort(names) // as logrotate does: what is said in one holds in the next
		for _, name := range names {
			p.include(filepath.Join(path, name), depth+1)
		}
		return
	}
	if !info.Mode().IsRegular() || info.Size() > fileMax {
		p.errs = append(p.errs, fmt.Errorf("%s: no regular file of at most %d bytes", path, fileMax))
		return
	}
	b, err := io.ReadAll(io.LimitReader(f, fileMax))
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	p.text(b, depth)
}

// text reads what a file says.
func (p *parser) text(b []byte, depth int) {
	var patterns []string
	inBlock, inScript := false, false
	olddir := ""
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, fileMax+1)
	for lines.Scan() {
		words := split(lines.Text())
		if len(words) == 0 {
			continue
		}
		if inScript {
			inScript = words[0] != "endscript"
			continue
		}
		switch word := words[0]; {
		case slices.Contains([]string{"prerotate", "postrotate", "firstaction", "lastaction", "preremove"}, word):
			inScript = true
		case inBlock && word == "}":
			if olddir != "" {
				p.rules = append(p.rules, rule{patterns, olddir})
			}
			inBlock, patterns = false, nil
		case word == "olddir" || word == "noolddir":
			dir := ""
			if word == "olddir" && len(words) > 1 {
				dir = words[1]
			}
			if inBlock {
				olddir = dir
			} else {
				p.olddir = dir
			}
		case !inBlock && word == "include":
			if len(words) > 1 {
				p.include(words[1], depth+1)
			}
		case !inBlock && (filepath.IsAbs(word) || word == "{"):
			// The files of a block stand on one line or on several, its brace behind them or on the next.
			for i, w := range words {
				if w == "{" {
					inBlock, olddir = true, p.olddir
					words = words[i+1:]
					break
				}
				patterns = append(patterns, w)
			}
			if inBlock && slices.Contains(words, "}") { // an empty block, on one line
				if olddir != "" {
					p.rules = append(p.rules, rule{patterns, olddir})
				}
				inBlock, patterns = false, nil
			}
		}
	}
}

// split takes a line apart: words, quoted ones with what is between the quotes, a brace at a word's end by itself, no comment.
// Between a directive and its value there may be an equals sign.
func split(line string) (words []string) {
	line = strings.TrimLeft(strings.TrimSpace(line), "= \t")
	for line != "" && line[0] != '#' {
		var word string
		if q := line[0]; q == '"' || q == '\'' {
			end := strings.IndexByte(line[1:], q)
			if end < 0 {
				end = len(line) - 1
			}
			word, line = line[1:1+end], line[min(len(line), end+2):]
		} else {
			ends := " \t"
			if len(words) == 0 && line[0] != '/' {
				ends = " \t="
			}
			end := strings.IndexAny(line, ends)
			if end < 0 {
				end = len(line)
			}
			word, line = line[:end], line[end:]
			if w, brace := strings.CutSuffix(word, "{"); brace && w != "" {
				words = append(words, w)
				word = "{"
			}
		}
		if word != "" {
			words = append(words, word)
		}
		line = strings.TrimLeft(line, " \t")
		if len(words) == 1 && words[0][0] != '/' {
			line = strings.TrimLeft(line, " \t=")
		}
	}
	return words
}
