package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"logforward/internal/control"
	"logforward/internal/tail"
	"logforward/internal/trust"
)

// maxDefinitions bounds what a directory that isn't ours could cost.
const maxDefinitions = 10000

// signature tells whether a file changed, without reading it.
type signature struct {
	dev, ino    uint64
	size        int64
	mtime, ctim time.Duration // since 1970
}

func signatureOf(info fs.FileInfo) signature {
	s := info.Sys().(*syscall.Stat_t)
	return signature{uint64(s.Dev), s.Ino, s.Size,
		time.Duration(s.Mtim.Sec)*time.Second + time.Duration(s.Mtim.Nsec),
		time.Duration(s.Ctim.Sec)*time.Second + time.Duration(s.Ctim.Nsec)}
}

// source is one definition file as it was last seen.
type source struct {
	seen  signature
	good  *Definition // the last good one; nil: there never was one
	fault error       // of the file as it is now
}

// directory is the definitions directory. It is not for several goroutines.
type directory struct {
	path    string
	sources map[string]*source // by file name
	owner   map[string]string  // log → file name, of the last look
	fault   error              // of the directory itself
	strange []control.Problem  // files that look as if they were meant to be read
	was     bool               // it existed at some time
	names   []string           // of its files, of the last look
	at      signature          // of the directory then; zero: the names are to be read again in any case
	read    time.Time          // when they were
	// unsettled: a file changed a moment ago and is to be looked at again soon.
	unsettled bool
	// elsewhere: a file is a link, or has another name, too, so that it can be written to without anything happening in the directory.
	elsewhere bool
	links     bool // the same, of the names that were read
	missing   bool // there was no directory at the last look
}

// settle is how long a file must have been left alone before it is read: one that is
// written in place can be a valid definition of a wrong path before it is complete.
const settle = 200 * time.Millisecond

func newDirectory(path string) *directory {
	return &directory{path: path, sources: map[string]*source{}, owner: map[string]string{}}
}

// look reads what changed; all of it, where again is set. It reports whether anything is different.
func (d *directory) look(again bool) (changed bool) {
	d.unsettled = false
	first := !d.was
	names, err := d.listed(again)
	d.elsewhere, d.missing = d.links, errors.Is(err, fs.ErrNotExist)
	if err != nil {
		// A directory that is missing for a moment, because it is being replaced, or can't
		// be read, must not stop what is forwarded: the last good definitions stay.
		var fault error
		if d.was || !errors.Is(err, fs.ErrNotExist) {
			fault = fmt.Errorf("definitions directory: %w; what it last defined stays in force", err)
		}
		changed = (fault == nil) != (d.fault == nil)
		d.fault = fault
		return changed
	}
	changed, d.fault, d.was = d.fault != nil, nil, true
	present := make(map[string]bool, len(names))
	var strange []control.Problem
	for _, name := range names {
		if ignored(name) {
			continue
		}
		path := filepath.Join(d.path, name)
		if !strings.HasSuffix(name, ".yaml") {
			if strings.HasSuffix(name, ".yml") {
				strange = append(strange, control.Problem{Where: path, Problem: "not read: a definition's file name ends in .yaml"})
			}
			continue
		}
		if len(present) == maxDefinitions {
			d.fault = fmt.Errorf("definitions directory %s: more than %d files; the others aren't read", d.path, maxDefinitions)
			break
		}
		if d.one(name, path, again || first) {
			changed = true
		}
		present[name] = true
	}
	for name := range d.sources {
		if !present[name] {
			delete(d.sources, name)
			changed = true
		}
	}
	changed = changed || !slices.Equal(strange, d.strange)
	d.strange = strange
	return changed
}

// atRest tells whether nothing can become of the last look without an event in the directory: it is known to have been complete, and all that it found
// lies in the directory itself.
func (d *directory) atRest() bool {
	return !d.unsettled && !d.elsewhere && (d.missing || d.at != signature{})
}

// listed are the names of the directory's files, if nobody else can have put them there. They are read again where the directory isn't as it was:
// what each second finds on a node at rest are the same ones.
func (d *directory) listed(again bool) ([]string, error) {
	if !again && d.at != (signature{}) && time.Since(d.read) < everyLook {
		if info, err := os.Stat(d.path); err == nil && signatureOf(info) == d.at {
			return d.names, nil
		}
	}
	began := time.Now()
	d.at, d.links = signature{}, false
	names, info, err := d.list()
	if err != nil {
		return nil, err
	}
	d.names, d.read = names, began
	// One that changed just now may change once more without its time showing it, and a network's file system may tell old times.
	if at := signatureOf(info); began.Sub(time.Unix(0, int64(max(at.mtime, at.ctim)))) >= coarse && tail.IsLocal(d.path) {
		d.at = at
	}
	return names, nil
}

// list reads the names. What the directory is like is taken before, so that a change meanwhile is seen as one.
func (d *directory) list() ([]string, os.FileInfo, error) {
	dir, err := os.Open(d.path)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return nil, nil, err
	}
	if err := trust.Check(info); err != nil {
		return nil, nil, fmt.Errorf("%s: %w; chown root and chmod go-w", d.path, err)
	}
	files, err := dir.ReadDir(-1)
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name()
		d.links = d.links || !f.Type().IsRegular() && !ignored(f.Name())
	}
	slices.Sort(names)
	return names, info, err
}

// one looks at one file. A file that is gone again has no source afterwards.
func (d *directory) one(name, path string, again bool) (changed bool) {
	old := d.sources[name]
	// Through a symbolic link, for ConfigMaps and Puppet's links: what it points to is what counts.
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			if _, lerr := os.Lstat(path); lerr != nil {
				return false // gone since the directory was read; the next look sees that
			}
		}
		return d.set(name, old, signature{}, nil, fmt.Errorf("read definition: %w", err))
	}
	if info.Sys().(*syscall.Stat_t).Nlink > 1 {
		d.elsewhere = true
	}
	now := signatureOf(info)
	if old != nil && old.seen == now && !again {
		return false
	}
	if age := time.Since(info.ModTime()); !again && age >= 0 && age < settle {
		d.unsettled = true
		return false
	}
	definition, err := readDefinition(path)
	if err != nil {
		if errors.Is(err, errChanging) {
			now = signature{} // look again next time, whatever it is then
		}
		return d.set(name, old, now, nil, err)
	}
	return d.set(name, old, now, &definition, nil)
}

func (d *directory) set(name string, old *source, seen signature, good *Definition, fault error) (changed bool) {
	s := &source{seen: seen, good: good, fault: fault}
	if old != nil && good == nil {
		s.good = old.good
	}
	changed = old == nil || old.seen != seen || (old.fault == nil) != (fault == nil) ||
		fault != nil && old.fault.Error() != fault.Error()
	d.sources[name] = s
	return changed
}

// ignored tells editors' and installers' temporary files: hidden ones (".x.yaml.swp", Kubernetes'
// "..data"), backups, and what dpkg, rpm and emacs leave.
func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~") ||
		strings.Contains(name, ".dpkg-") || strings.Contains(name, ".rpm") && !strings.HasSuffix(name, ".yaml")
}

// managed is a definition and the file that it stands in.
type managed struct {
	Definition
	file string // path
}

// definitions are those in force, by log, and what is wrong. Where two files define one
// log, the file that defined it before wins, at first sight the first by name: a new
// file must not take a running log over.
func (d *directory) definitions() (map[string]managed, []control.Problem) {
	problems := slices.Clone(d.strange)
	if d.fault != nil {
		problems = append(problems, control.Problem{Where: d.path, Problem: d.fault.Error()})
	}
	names := make([]string, 0, len(d.sources))
	for name := range d.sources {
		names = append(names, name)
	}
	slices.Sort(names)
	claims := map[string][]string{}
	for _, name := range names {
		s := d.sources[name]
		path := filepath.Join(d.path, name)
		if s.fault != nil {
			text := s.fault.Error()
			if s.good != nil {
				text += "; its last good definition stays in force"
			}
			problems = append(problems, control.Problem{Where: path, Problem: text})
		}
		if s.good != nil {
			claims[s.good.Log] = append(claims[s.good.Log], name)
		}
	}
	result, owner := map[string]managed{}, map[string]string{}
	for log, files := range claims {
		winner := files[0]
		if slices.Contains(files, d.owner[log]) {
			winner = d.owner[log]
		}
		owner[log] = winner
		result[log] = managed{*d.sources[winner].good, filepath.Join(d.path, winner)}
		for _, other := range files {
			if other != winner {
				problems = append(problems, control.Problem{Where: filepath.Join(d.path, other),
					Problem: fmt.Sprintf("log %s is defined in %s already, which stays in force", log, filepath.Join(d.path, winner))})
			}
		}
	}
	d.owner = owner
	slices.SortFunc(problems, func(a, b control.Problem) int { return strings.Compare(a.Where, b.Where) })
	return result, problems
}
