package receive

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ErrNoLedger: there is none for this log below this output.
var ErrNoLedger = errors.New("no ledger")

// Ledgers finds the ledgers of a log below an output directory: one of each receiver that wrote
// there. Paths are relative to the output.
func Ledgers(output, identity, log string) ([]string, error) {
	dir := filepath.Join(output, pathName(identity))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), pathName(log)+"@ledger")
		if ok && strings.HasSuffix(rest, ".jsonl") && (rest == ".jsonl" || rest[0] == '@') {
			names = append(names, filepath.Join(pathName(identity), e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w of %s/%s below %s", ErrNoLedger, identity, log, output)
	}
	return names, nil
}

// Ledger reads one ledger. A half-written last line, as a running receiver may leave it for a
// moment, is left out; any other line that can't be read is an error.
func Ledger(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []Entry
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		b, err := r.ReadBytes('\n')
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ledger %s: %w", path, err)
		}
		var e Entry
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, fmt.Errorf("ledger %s line %d: %w", path, n, err)
		}
		entries = append(entries, e)
	}
}

// Extent is a run of a log's positions in one central file.
type Extent struct {
	Epoch  uint64
	From   uint64 // position of the byte at Offset
	File   string // below the output, as it is named now
	Offset int64
	End    int64 // offset behind the run; -1: the file's end
	Gone   bool  // retention has deleted the file
}

// Extents puts the files of a log together in the order of its bytes, from all of its ledgers.
func Extents(output, identity, log string) ([]Extent, error) {
	ledgers, err := Ledgers(output, identity, log)
	if err != nil {
		return nil, err
	}
	var all []Extent
	for _, name := range ledgers {
		entries, err := Ledger(filepath.Join(output, name))
		if err != nil {
			return nil, err
		}
		all = append(all, extents(entries)...)
	}
	slices.SortStableFunc(all, func(a, b Extent) int {
		switch {
		case a.Epoch != b.Epoch && a.Epoch < b.Epoch, a.Epoch == b.Epoch && a.From < b.From:
			return -1
		case a.Epoch == b.Epoch && a.From == b.From:
			return 0
		}
		return 1
	})
	return all, nil
}

// extents follows one ledger: a range ends where the next in the same file begins.
func extents(entries []Entry) []Extent {
	var all []Extent
	open := make(map[string][]int) // extents of the file that has this name now
	for i := range entries {
		switch e := &entries[i]; e.Event {
		case EventRange:
			if list := open[e.File]; len(list) > 0 {
				all[list[len(list)-1]].End = e.Offset
			}
			open[e.File] = append(open[e.File], len(all))
			all = append(all, Extent{Epoch: e.Epoch, From: e.From, File: e.File, Offset: e.Offset, End: -1})
		case EventClose:
			list := open[e.File]
			delete(open, e.File)
			open[e.Name] = list
			for n, j := range list {
				all[j].File = e.Name
				if n == len(list)-1 {
					all[j].End = e.Size
				}
			}
		case EventExpire:
			for _, j := range open[e.File] {
				all[j].Gone = true
			}
		}
	}
	return all
}

// OpenCentral opens a central file, in its compressed form where that is what is left.
func OpenCentral(output, name string) (io.ReadCloser, error) {
	path := filepath.Join(output, name)
	f, err := os.Open(path)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err2 := os.Open(path + ".zst"); err2 == nil {
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s.zst: %w", name, err)
		}
		return &decompressed{z.IOReadCloser(), f}, nil
	}
	if f, err2 := os.Open(path + ".gz"); err2 == nil {
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s.gz: %w", name, err)
		}
		return &decompressed{z, f}, nil
	}
	return nil, err
}

type decompressed struct {
	io.ReadCloser
	f *os.File
}

func (d *decompressed) Close() error {
	return errors.Join(d.ReadCloser.Close(), d.f.Close())
}

// Cat writes a log's central bytes in order, over all of its files, rotated and compressed ones too.
// What retention has deleted is left out and counted in missing.
func Cat(w io.Writer, output, identity, log string) (missing int, err error) {
	all, err := Extents(output, identity, log)
	if err != nil {
		return 0, err
	}
	for _, x := range all {
		if x.Gone {
			missing++
			continue
		}
		if err := catExtent(w, output, x); err != nil {
			return missing, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
	}
	return missing, nil
}

func catExtent(w io.Writer, output string, x Extent) error {
	f, err := OpenCentral(output, x.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if s, ok := f.(io.Seeker); ok {
		if _, err := s.Seek(x.Offset, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, f, x.Offset); err != nil {
		return fmt.Errorf("%s: %w", x.File, err)
	}
	if x.End < 0 {
		_, err = io.Copy(w, f)
		return err
	}
	if _, err := io.CopyN(w, f, x.End-x.Offset); err != nil {
		return fmt.Errorf("%s ends before %d: %w", x.File, x.End, err)
	}
	return nil
}
