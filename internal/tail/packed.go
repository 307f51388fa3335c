package tail

import (
	"bufio"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// windowMin is kept of the unpacked bytes, so that reading the same range again
// or going a little back needs no start from the beginning.
const windowMin = 256 << 10

// packedMemory bounds what a compressed file may make the decoder allocate.
const packedMemory = 128 << 20

// packed reads a compressed file as if it weren't. Nothing is unpacked to
// disk: going back further than the window starts from the beginning.
type packed struct {
	file *file
	kind string

	stream io.Reader
	done   func()
	window []byte // the unpacked bytes in front of pos
	pos    int64  // unpacked so far in this pass
	total  int64  // the most that was ever unpacked
	ended  bool   // total is the whole length
	broken bool   // the stream failed behind pos
}

func newPacked(f *file, kind string) *packed { return &packed{file: f, kind: kind} }

// endsAt says that off is the end as far as is known.
func (p *packed) endsAt(off int64) bool { return p.ended && off >= p.total }

func (p *packed) open() error {
	p.release()
	raw := bufio.NewReaderSize(&section{c: p.file}, 64<<10)
	var err error
	switch p.kind {
	case "gz":
		var z *gzip.Reader
		if z, err = gzip.NewReader(raw); err == nil {
			p.stream = z
		}
	case "zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(packedMemory), zstd.WithDecoderMaxMemory(packedMemory))
		if err == nil {
			p.stream, p.done = z, z.Close
		}
	case "xz":
		var z *xz.Reader
		if z, err = (xz.ReaderConfig{DictCap: packedMemory / 2}).NewReader(raw); err == nil {
			p.stream = z
		}
	case "bz2":
		p.stream = bzip2.NewReader(raw)
	default:
		err = fmt.Errorf("compression %q is not supported", p.kind)
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", p.file.real, err)
	}
	return nil
}

// release gives the decoder's memory back.
func (p *packed) release() {
	if p.done != nil {
		p.done()
	}
	p.stream, p.done, p.pos, p.broken = nil, nil, 0, false
	p.window = p.window[:0]
}

// at fills b with the unpacked bytes from off on.
func (p *packed) at(b []byte, off int64) (int, error) {
	if p.stream == nil || p.broken && off >= p.pos || off < p.pos-int64(len(p.window)) {
		if err := p.open(); err != nil {
			return 0, err
		}
	}
	keep := max(windowMin, 2*len(b))
	if off > p.pos {
		if err := p.skip(off-p.pos, keep); err != nil || p.pos < off {
			return 0, err
		}
	}
	n := copy(b, p.window[int64(len(p.window))-(p.pos-off):])
	for n < len(b) && !p.broken {
		m, err := p.next(b[n:], keep)
		n += m
		if err == io.EOF || n > 0 && err != nil { // an error comes again when it is its turn
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// next unpacks into b and into the window.
func (p *packed) next(b []byte, keep int) (int, error) {
	n, err := p.stream.Read(b)
	if over := len(p.window) + n - keep; over > keep {
		// Only when twice as much has gathered: not each read moves the window.
		p.window = append(p.window[:0], p.window[min(over, len(p.window)):]...)
	}
	p.window = append(p.window, b[:n]...)
	p.pos += int64(n)
	p.total = max(p.total, p.pos)
	switch {
	case err == io.EOF:
		p.ended = true
		return n, io.EOF
	case err != nil:
		err = fmt.Errorf("unpack %s at %d: %w", p.file.real, p.pos, err)
		p.broken = true // the next read starts anew: it may have been in the making
		return n, err
	}
	return n, nil
}

func (p *packed) skip(n int64, keep int) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		m, err := p.next(buf[:min(n, int64(len(buf)))], keep)
		n -= int64(m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *packed) read(before, b []byte, off int64) (int, error) {
	n, err := p.at(before, off-int64(len(before)))
	if err != nil {
		return 0, err
	}
	if n < len(before) {
		return 0, errShort
	}
	return p.at(b, off)
}

func (p *packed) stat() (info, error) {
	i, err := p.file.stat()
	i.size, i.partial = p.total, !p.ended
	return i, err
}

func (p *packed) descriptor() int { return p.file.fd }

func (p *packed) close() error {
	p.release()
	p.window = nil
	return p.file.close()
}

// section reads a file from its beginning.
type section struct {
	c   content
	off int64
}

func (s *section) Read(b []byte) (int, error) {
	n, err := s.c.read(nil, b, s.off)
	s.off += int64(n)
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}
