package tail

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	headMax   = 1024 // a fingerprint covers at most this much
	beforeMax = 256  // remembered in front of the offset
	checkRead = 64   // of these, compared at every read
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is a length and the CRC-32C of that many bytes.
type sum struct {
	length int
	crc    uint32
}

func sumOf(p []byte) sum { return sum{len(p), crc32.Checksum(p, castagnoli)} }

// generation is one physical file in the log's life.
type generation struct {
	id       string // empty until the first bytes are known
	dev, ino uint64
	head     sum    // fingerprint: the first bytes
	start    []byte // the bytes that head covers, where they were read in this process
	path     string // as last known
	offset   int64  // up to which it was handed out
	size     int64  // last known, of what was ever seen in it
	mtime    time.Time
	birth    time.Time // of the log's life in it, zero: unknown
	born     time.Time // when the very file was made, which may be a copy; zero: unknown
	stamp    time.Time // its time of change
	before   []byte    // up to beforeMax bytes in front of offset
	want     sum       // their sum, where they aren't read yet in this process
	mark     mark      // what a copy has that was made when it was rotated
	verify   func(readAt func(p []byte, off int64) (int, error)) bool

	content content // nil: not open
	live    bool    // the log's path leads to it
	settled bool    // nobody can write to it any more: a copy, a compressed form
	drained bool    // was read to the end and had been quiet
	cut     bool    // its file was truncated before this run, though it begins as it did
	copied  bool    // content is a copy that was found in this run or an earlier one: more of the file may have been read than that has
	short   int64   // content ends here, before offset; 0: it doesn't
	seen    int64   // size that the file itself had, as last known, where content is a copy
	gone    bool    // its bytes can't be had again
	cause   string  // why
	deleted bool
	links   uint64
	// It was found with so little in it that it may be a copy that is being made: see skipCopy. Nothing of it was handed out.
	doubtful bool
	noted    int64 // offset when its copies were noted

	noticed   time.Time // when the path was seen to lead elsewhere, or the file was seen to grow
	changed   time.Time // by the file system's clock
	drainedAt time.Time
	traced    time.Time // the directory's time when it was looked for below
	loss      *Loss     // to be handed out in its place
	hold      *hold
}

// newID names a generation over the wire: device, inode, length and checksum
// of the fingerprint when the id was given, all in hex, and a number that only
// grows. The first four let a node without state find the file again.
func newID(dev, ino uint64, head sum, serial uint64) string {
	return fmt.Sprintf("%x-%x-%x-%08x-%s", dev, ino, head.length, head.crc, strconv.FormatUint(serial, 36))
}

// parseID is newID's inverse.
func parseID(id string) (dev, ino uint64, head sum, serial uint64, err error) {
	bad := fmt.Errorf("generation %q: not an id", id)
	parts := strings.Split(id, "-")
	if len(id) > 128 || len(parts) != 5 {
		return 0, 0, sum{}, 0, bad
	}
	var n [5]uint64
	for i, p := range parts {
		base, bits := 16, 64
		switch i {
		case 3:
			bits = 32
		case 4:
			base = 36
		}
		v, perr := strconv.ParseUint(p, base, bits)
		if perr != nil {
			return 0, 0, sum{}, 0, bad
		}
		n[i] = v
	}
	if n[2] > headMax {
		return 0, 0, sum{}, 0, bad
	}
	return n[0], n[1], sum{int(n[2]), uint32(n[3])}, n[4], nil
}

// known is up to where the file's content was looked at. Where that is less than a fingerprint covers it may be no more than how each of the
// log's files begins.
func (g *generation) known() int64 { return max(int64(g.head.length), g.offset) }

// remember keeps the last bytes of data as what stands before the offset.
func (g *generation) remember(data []byte) {
	if len(data) >= beforeMax {
		g.before = append(g.before[:0], data[len(data)-beforeMax:]...)
		return
	}
	if cut := len(g.before) + len(data) - beforeMax; cut > 0 {
		g.before = append(g.before[:0], g.before[cut:]...)
	}
	g.before = append(g.before, data...)
}

// fingerprint reads the first bytes again as long as there are fewer than a
// full fingerprint. It returns false if they are no longer what they were.
func (g *generation) fingerprint() (bool, error) {
	if g.content == nil || g.head.length >= headMax && g.start != nil {
		return true, nil
	}
	if int64(g.head.length) >= g.size && g.start != nil {
		return true, nil
	}
	buf := make([]byte, headMax)
	n, err := readAt(g.content, buf, 0)
	if err != nil && err != io.EOF {
		return true, err
	}
	buf = buf[:n]
	if n < g.head.length || sumOf(buf[:g.head.length]) != g.head {
		return false, nil
	}
	g.head, g.start = sumOf(buf), buf
	if n < headMax {
		g.start = append([]byte(nil), buf...) // a short one mustn't hold the room of a long one
	}
	return true, nil
}

// observe takes over what stat said. It returns false if the file shrank.
func (g *generation) observe(at info, now time.Time) bool {
	g.changed, g.links, g.deleted, g.stamp = at.changed, at.links, at.links == 0, at.mtime
	if at.size < g.size && !at.partial {
		return false
	}
	if g.live {
		// Not afterwards: what is newer than this came after it, see between.
		g.mtime = at.mtime
	}
	if at.size > g.size {
		g.size = at.size
		g.noticed = now
	}
	return true
}

// unread says that there are bytes behind the offset as far as was last seen.
func (g *generation) unread() bool {
	if g.content == nil || g.short > 0 {
		return false
	}
	if p, ok := g.content.(*packed); ok {
		return !p.endsAt(g.offset)
	}
	return g.size > g.offset
}

// quiet says that an old generation may be taken as finished: it hasn't grown
// and wasn't renamed for a while. Both clocks are asked: ours since we noticed, and
// the file system's, which knows how long ago it was when we look for the first time.
func (g *generation) quiet(now time.Time, wait time.Duration) (bool, time.Duration) {
	if g.settled {
		return true, 0
	}
	since := now.Sub(g.noticed)
	if since >= wait || now.Sub(g.changed) >= wait {
		return true, 0
	}
	return false, wait - since
}

// contentMatches compares c with a fingerprint and with what stood in front of
// offset, given as bytes or as their sum. It is false where c is shorter.
func contentMatches(c content, head sum, before []byte, check sum, offset int64) (bool, error) {
	f, ok := c.(*file)
	if !ok || f.room == nil || f.room.filled >= offset || f.raw.size < offset {
		return matches(c, head, before, check, offset)
	}
	// What was handed out of this very file counts, though it reads as room by now.
	was := *f.room
	f.room.filled = offset
	same, err := matches(c, head, before, check, offset)
	if !same {
		*f.room = was
	}
	return same, err
}

func matches(c content, head sum, before []byte, check sum, offset int64) (bool, error) {
	buf := make([]byte, max(head.length, beforeMax))
	n, err := readAt(c, buf[:head.length], 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	if n < head.length || sumOf(buf[:n]) != head {
		return false, nil
	}
	length := len(before)
	if length == 0 {
		length = check.length
	}
	if offset == 0 {
		return true, nil
	}
	if length > beforeMax || int64(length) > offset {
		return false, nil
	}
	// Without remembered bytes the size must still reach the offset.
	probe := max(length, 1)
	n, err = readAt(c, buf[:probe], offset-int64(probe))
	if err != nil && err != io.EOF {
		return false, err
	}
	if n < probe {
		return false, nil
	}
	switch {
	case len(before) > 0:
		return bytes.Equal(buf[:n], before), nil
	case check.length > 0:
		return sumOf(buf[:n]) == check, nil
	}
	return true, nil
}

// load reads what stands in front of the offset.
func (g *generation) load() error {
	n := min(g.offset, beforeMax)
	buf := make([]byte, n)
	if _, err := readAt(g.content, buf, g.offset-n); err != nil {
		return fmt.Errorf("read %d bytes in front of offset %d of %s: %w", n, g.offset, g.path, err)
	}
	g.before = buf
	return nil
}

func (g *generation) close() {
	if g.content != nil {
		_ = g.content.close() // opened for reading: nothing that could be lost
		g.content = nil
	}
}

// written says that somebody has the file open for writing, or that this can't be known.
func (g *generation) written() bool { return g.lease() != nil }

// busy says that somebody has the file open for writing for sure.
func (g *generation) busy() bool { return g.lease() == unix.EAGAIN }

// lease takes a read lease for a moment: it is refused with EAGAIN where somebody has the file open for writing, and otherwise where leases
// don't work. It is for deleted files only, where it can delay nobody's open.
func (g *generation) lease() error {
	if g.content == nil {
		return nil
	}
	fd := g.content.descriptor()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return err
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return nil
}

// birthOf returns when a file was made, zero where the file system doesn't say.
func birthOf(dirfd int, path string, flags int) time.Time {
	var stx unix.Statx_t
	if err := unix.Statx(dirfd, path, flags, unix.STATX_BTIME, &stx); err != nil || stx.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}
	}
	return time.Unix(stx.Btime.Sec, int64(stx.Btime.Nsec))
}
