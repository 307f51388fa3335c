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
	"strings"
	"time"

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

// OpenCentral opens a central file, in its compressed form where that is what is left. Links aren't followed.
func OpenCentral(output, name string) (io.ReadCloser, error) {
	f, err := openBelow(output, name, os.O_RDONLY, 0)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err2 := openBelow(output, name+".zst", os.O_RDONLY, 0); err2 == nil {
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s.zst: %w", name, err)
		}
		return &decompressed{z.IOReadCloser(), f}, nil
	}
	if f, err2 := openBelow(output, name+".gz", os.O_RDONLY, 0); err2 == nil {
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

// Cat writes a log's central bytes in order, over all of its files, rotated and compressed ones too. It
// may run while a receiver writes. Runs whose file isn't there any more are left out and counted in missing.
func Cat(w io.Writer, output, identity, log string) (missing int, err error) {
	all, err := Extents(output, identity, log)
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(all); i++ {
		f, err := openExtent(output, &all[i])
		if all[i].End < 0 || errors.Is(err, fs.ErrNotExist) {
			// A receiver may have closed the file since, and its name may be another's. The line that
			// says so is there before the name is used again: look, and if so, open what it is now.
			for try := 0; ; try++ {
				now, err2 := Extents(output, identity, log)
				if err2 != nil {
					return missing, closeWith(f, err2)
				}
				same := i < len(now) && now[i] == all[i]
				if i < len(now) && now[i].Epoch == all[i].Epoch && now[i].From == all[i].From {
					all = now
				}
				if same && (err == nil || try == maxLooks) {
					break
				}
				if f != nil {
					f.Close()
				}
				if same {
					time.Sleep(lookAgain) // between a rename and its line
				}
				f, err = openExtent(output, &all[i])
			}
		}
		if all[i].Gone || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
			missing++
			if f != nil {
				f.Close()
			}
			continue
		}
		if err == nil {
			err = closeWith(f, catExtent(w, f, all[i]))
		}
		if err != nil {
			return missing, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
	}
	return missing, nil
}

// A file that isn't there is looked for again: its new name may not be in the ledger yet.
const (
	maxLooks  = 10
	lookAgain = 20 * time.Millisecond
)

// openExtent opens a run's file; nil where it is known to be gone.
func openExtent(output string, x *Extent) (io.ReadCloser, error) {
	if x.Gone {
		return nil, nil
	}
	return OpenCentral(output, x.File)
}

func closeWith(c io.Closer, err error) error {
	if c == nil {
		return err
	}
	return errors.Join(err, c.Close())
}

func catExtent(w io.Writer, f io.Reader, x Extent) error {
	if s, ok := f.(io.Seeker); ok {
		if _, err := s.Seek(x.Offset, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, f, x.Offset); err != nil {
		return fmt.Errorf("%s: %w", x.File, err)
	}
	if x.End < 0 {
		_, err := io.Copy(w, f)
		return err
	}
	if _, err := io.CopyN(w, f, x.End-x.Offset); err != nil {
		return fmt.Errorf("%s ends before %d: %w", x.File, x.End, err)
	}
	return nil
}
