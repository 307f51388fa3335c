package receive

import (
	"bufio"
	"bytes"
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
	"golang.org/x/sys/unix"
)

// ErrNoLedger: there is none for this log below this output.
var ErrNoLedger = errors.New("no ledger")

// Ledgers finds the ledgers of a log below an output directory: one of each receiver that wrote
// there. Paths are relative to the output.
func Ledgers(output, identity, log string) ([]string, error) {
	d, err := os.Open(filepath.Join(output, pathName(identity)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	if err == nil {
		defer d.Close()
		if names, err = ledgersIn(d, log); err != nil {
			return nil, err
		}
		for i, name := range names {
			names[i] = filepath.Join(pathName(identity), name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w of %s/%s below %s", ErrNoLedger, identity, log, output)
	}
	return names, nil
}

// ledgersIn gives the names of a log's ledgers in a directory, which may have those of ten thousand logs: only what is wanted is sorted and kept.
func ledgersIn(d *os.File, log string) (names []string, err error) {
	prefix := pathName(log) + "@ledger"
	for {
		some, err := d.Readdirnames(1024)
		for _, name := range some {
			rest, ok := strings.CutPrefix(name, prefix)
			if ok && strings.HasSuffix(rest, ".jsonl") && (rest == ".jsonl" || rest[0] == '@') {
				names = append(names, name)
			}
		}
		if err == io.EOF {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Ledger reads one ledger. A half-written last line, as a running receiver may leave it for a
// moment, is left out; any other line that can't be read is an error.
func Ledger(path string) (entries []Entry, err error) {
	err = ReadLedger(path, func(e *Entry) { entries = append(entries, *e) })
	return entries, err
}

// openLedger doesn't wait for a writer where somebody has put a pipe.
func openLedger(path string) (*os.File, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return regular(fd, path)
}

// ReadLedger is [Ledger] for one that may be too long to be kept: each is called for every entry, in order. The entry is the caller's.
func ReadLedger(path string, each func(*Entry)) error {
	f, err := openLedger(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return eachLine(f, path, func(n int, line []byte) error {
		e := new(Entry)
		if err := json.Unmarshal(line, e); err != nil {
			return fmt.Errorf("ledger %s line %d: %w", path, n, err)
		}
		each(e)
		return nil
	})
}

// seals are in most of the lines of a ledger whose node seals, and say nothing of where bytes are. So what looks for that passes them by.
var sealLine = []byte(`"event":"` + EventSeal + `"`)

// unsealed reads a ledger's entries but for the seals.
func unsealed(path string) (entries []Entry, err error) {
	f, err := openLedger(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLedger(f, path)
}

// readLedger reads entries but for the seals.
func readLedger(from io.Reader, path string) (entries []Entry, err error) {
	err = eachLine(from, path, func(n int, line []byte) error {
		if bytes.Contains(line, sealLine) { // no text can hold it: there the quotes are escaped
			return nil
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("ledger %s line %d: %w", path, n, err)
		}
		if e.Event != EventSeal {
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// maxLine is more than any line of a ledger has bytes.
const maxLine = 1 << 20

// eachLine calls each for every line of a ledger that has an end, with its number. The line is good until each returns.
func eachLine(from io.Reader, path string, each func(n int, line []byte) error) error {
	r := bufio.NewReaderSize(from, 64<<10)
	var long []byte
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		for long = long[:0]; errors.Is(err, bufio.ErrBufferFull); line, err = r.ReadSlice('\n') {
			if long = append(long, line...); len(long) > maxLine {
				return fmt.Errorf("ledger %s line %d is longer than %d bytes", path, n, maxLine)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ledger %s: %w", path, err)
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err := each(n, line); err != nil {
			return err
		}
	}
}

// OpenCentral opens a central file, in its compressed form where that is what is left. Links aren't followed.
func OpenCentral(output, name string) (io.ReadCloser, error) {
	f, err := openBelow(output, name, os.O_RDONLY, 0, 0)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err2 := openBelow(output, name+".zst", os.O_RDONLY, 0, 0); err2 == nil {
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s.zst: %w", name, err)
		}
		return &decompressed{z.IOReadCloser(), f}, nil
	}
	if f, err2 := openBelow(output, name+".gz", os.O_RDONLY, 0, 0); err2 == nil {
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
