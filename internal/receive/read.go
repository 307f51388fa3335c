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
func Ledger(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLedger(f, path)
}

func readLedger(from io.Reader, path string) (entries []Entry, err error) {
	r := bufio.NewReader(from)
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
