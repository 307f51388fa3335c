package tail

import (
	"bytes"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A writer can set room aside in its file: it makes it longer, by a hole or by blocks that nothing was written to, and fills that later, mostly through a
// mapping, of which no event comes. What nothing was written to reads as NULs. To hand them out would give positions to bytes that aren't there yet. So a
// file is as long as it is filled where it ends in room; the room that is left is no byte of the log, also where the file is done with.
//
// What can't be told from bytes that were written is handed out as it reads: NULs behind which data stands, room that isn't a hole, also
// because its file system knows none, and what is left of the last page when the program starts.

const (
	// nulRun is how many NULs in a row may be room that another thread fills after what stands behind it. Characters have fewer.
	nulRun = 4
	// roomSettled is how long such a run must stay one until it counts as bytes.
	roomSettled = time.Second
	// roomLook is how often a file that ends in room is looked at: nothing tells that it is filled.
	roomLook = 500 * time.Millisecond
	// roomSearch bounds what is read of one file at a time to find what stands behind NULs, and roomExtents the extents that are asked for.
	roomSearch  = 1 << 20
	roomExtents = 10_000
	// page is what mappings are counted in, and so the room that is set aside for them.
	page = 4096
)

// room is the end of a file in which its writer has set room aside.
type room struct {
	filled int64 // up to here bytes count
	run    int64 // where NULs begin that have data behind them
	since  time.Time
}

// measure gives what is to be known of a file that stat says this of: its size is without the room at its end.
func (f *file) measure(at info) info {
	grown := at.size != f.raw.size
	f.raw = at
	if f.room == nil && grown && at.size > f.said && endsInRoom(f.fd, at.size) {
		if from := filledTo(f.fd, f.said, at.size); from < at.size {
			f.room = &room{filled: from, run: -1}
		}
	}
	if r := f.room; r != nil {
		r.advance(f.fd, at.size, time.Now())
		if left := at.size - r.filled; left <= 0 || left < nulRun && at.size%page != 0 {
			f.room = nil // it is full, or its writer has cut off what was left
		} else {
			at.size = r.filled
		}
	}
	f.said = max(f.said, at.size)
	return at
}

// take cuts what was read at an offset to what counts, and tells how much that is.
func (f *file) take(p []byte, off int64) int {
	n := len(p)
	if n > 0 && p[n-1] == 0 && f.room == nil && off+int64(n) > f.said {
		if at, err := fstat(f.fd); err == nil { // it grew since it was looked at
			f.measure(at)
		}
	}
	if f.room != nil {
		n = int(min(int64(n), max(0, f.room.filled-off)))
	}
	f.said = max(f.said, off+int64(n))
	return n
}

// endsInRoom tells whether nothing was ever written to a file's last byte. It isn't read: blocks that are allocated and weren't written count as written
// once they are in the cache.
func endsInRoom(fd int, size int64) bool {
	if size == 0 {
		return false
	}
	_, err := unix.Seek(fd, size-1, unix.SEEK_DATA)
	return err == unix.ENXIO
}

// filledTo is the end of the last byte of a file that isn't a NUL, or from.
func filledTo(fd int, from, size int64) int64 {
	var extents [][2]int64
	for end := from; len(extents) < roomExtents; {
		data, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if err != nil {
			break // ENXIO: none is left
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil || hole <= data {
			break
		}
		end = min(hole, size)
		extents = append(extents, [2]int64{data, end})
	}
	buf, searched := make([]byte, 64<<10), 0
	for _, x := range slices.Backward(extents) {
		for end := x[1]; end > x[0]; searched += len(buf) {
			if searched >= roomSearch {
				return end
			}
			at := max(x[0], end-int64(len(buf)))
			n, err := unix.Pread(fd, buf[:end-at], at)
			if err != nil || n == 0 {
				return end
			}
			if k := len(bytes.TrimRight(buf[:n], "\x00")); k > 0 {
				return at + int64(k)
			}
			end = at
		}
	}
	return from
}

// advance goes on to where the room now begins that isn't filled.
func (r *room) advance(fd int, size int64, now time.Time) {
	buf := make([]byte, page) // no more: what is read takes room in the cache
	for r.filled < size {
		n, err := unix.Pread(fd, buf[:min(int64(len(buf)), size-r.filled)], r.filled)
		if err != nil || n == 0 {
			return
		}
		if k := written(buf[:n]); k > 0 {
			r.filled += int64(k)
			if k == n && n == page {
				buf = make([]byte, 64<<10)
			}
			continue
		}
		next := behindNULs(fd, r.filled, size)
		if next < 0 {
			return
		}
		if r.run != r.filled {
			r.run, r.since = r.filled, now
		}
		if now.Sub(r.since) < roomSettled {
			return
		}
		r.filled = next
	}
}

// written is how many bytes stand at the beginning before NULs that may be room.
func written(p []byte) int {
	at := 0
	for {
		i := bytes.IndexByte(p[at:], 0)
		if i < 0 {
			return len(p)
		}
		at += i
		rest := bytes.TrimLeft(p[at:], "\x00")
		if run := len(p) - at - len(rest); len(rest) == 0 || run >= nulRun {
			return at
		}
		at = len(p) - len(rest)
	}
}

// behindNULs is where the first byte stands from an offset on that isn't a NUL; -1: none was found.
func behindNULs(fd int, from, size int64) int64 {
	buf := make([]byte, 64<<10)
	for searched := 0; from < size && searched < roomSearch; searched += len(buf) {
		if data, err := unix.Seek(fd, from, unix.SEEK_DATA); err == nil {
			from = data
		} else if err == unix.ENXIO {
			return -1
		}
		n, err := io.ReadFull(io.NewSectionReader(preader(fd), from, size-from), buf[:min(int64(len(buf)), size-from)])
		if n == 0 || err != nil {
			return -1
		}
		if rest := bytes.TrimLeft(buf[:n], "\x00"); len(rest) > 0 {
			return from + int64(n-len(rest))
		}
		from += int64(n)
	}
	return -1
}

// preader reads a descriptor at offsets.
type preader int

func (fd preader) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(int(fd), p, off)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}
