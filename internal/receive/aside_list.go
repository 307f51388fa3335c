package receive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// SetAside is a file of bytes that a receiver set aside: their commit had an outcome that it could not know.
type SetAside struct {
	Identity string     `json:"identity"`       // of the node
	Log      string     `json:"log"`            // its name
	Path     string     `json:"path"`           // of the file, which holds the bytes of Runs, one after the other
	Bytes    int64      `json:"bytes"`          // its size
	Since    time.Time  `json:"since"`          // when it was set aside
	Noted    bool       `json:"noted"`          // false: set aside by a version that kept no note, or the note is lost; only the last run's positions are known, if no gap lies in it
	Runs     []AsideRun `json:"runs"`           // which positions it holds
	Back     []PutBack  `json:"back,omitempty"` // what of it was put back, or is on its way
	// Asked is what an operator wants to become of it, and the receiver hasn't done yet.
	Asked *AsideRequest `json:"asked,omitempty"`
}

// AsideRun is a run of positions of one epoch, a byte for each.
type AsideRun struct {
	Epoch  uint64 `json:"epoch"`  // of the positions
	From   uint64 `json:"from"`   // position of its first byte
	To     uint64 `json:"to"`     // position behind its last
	Offset int64  `json:"offset"` // of From in the file, in bytes; -1: not known
}

// PutBack is a part of it that was put back, or is on its way.
type PutBack struct {
	Epoch uint64 `json:"epoch"` // of the positions
	From  uint64 `json:"from"`  // position of its first byte
	To    uint64 `json:"to"`    // position behind its last
	File  string `json:"file"`  // path below the output directory of the central file
	Done  bool   `json:"done"`  // false: it is on its way
}

// ListSetAside gives what lies set aside in a receiver's state directory, which may be in use, in the order of logs and of time. What is dropped meanwhile
// is left out. The error joins those of entries that can't be read; the others are given all the same.
func ListSetAside(stateDir string) (all []SetAside, err error) {
	if _, err := os.Stat(stateDir); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(stateDir, "cut", "*", "*"))
	if err != nil {
		return nil, err
	}
	var bad []error
	for _, path := range paths {
		key, c, ok := parseAside(path)
		identity, log, err := splitKey(key)
		if !ok || err != nil {
			bad = append(bad, fmt.Errorf("%s: not the name of what a receiver sets aside", path))
			continue
		}
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		a := SetAside{Identity: identity, Log: log, Path: path, Bytes: st.Size(), Since: st.ModTime().UTC()}
		n := noteOf(path)
		switch err := n.read(); {
		case err == nil:
			a.Noted = true
			for i := range n.Pieces {
				p := &n.Pieces[i]
				a.Runs = append(a.Runs, AsideRun{p.Epoch, p.From, p.To, p.Offset})
			}
			for _, b := range n.Back {
				a.Back = append(a.Back, PutBack{b.Epoch, b.From, b.To, b.File, b.Done})
			}
		case !errors.Is(err, fs.ErrNotExist):
			bad = append(bad, fmt.Errorf("%s: %w", n.path, err))
		}
		if a.Asked, err = readAsked(askedPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			bad = append(bad, fmt.Errorf("%s: %w; remove it, and ask again", askedPath(path), err))
		}
		if len(a.Runs) == 0 {
			a.Runs = []AsideRun{{c.epoch, c.from, c.to, -1}}
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b SetAside) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Log, b.Log), a.Since.Compare(b.Since), cmp.Compare(a.Path, b.Path))
	})
	return all, errors.Join(bad...)
}

// measureAside has the metrics tell how much is set aside.
func (r *Receiver) measureAside() {
	paths, err := filepath.Glob(filepath.Join(r.config.State, "cut", "*", "*"))
	if err != nil {
		return
	}
	var bytes int64
	for _, path := range paths {
		if st, err := os.Lstat(path); err == nil {
			bytes += st.Size()
		}
	}
	r.metrics.aside.Set(float64(bytes))
}
