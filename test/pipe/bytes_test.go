package pipe

import (
	"bytes"
	le "encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"logforward/internal/forward"
)

// TestBytesArriveAsTheyAre has one log for each kind of content, all on one node.
func TestBytesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	wide := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(strings.Repeat("größer als ein Byte \U0001F4DC\r\n", 3000))) {
		wide = le.LittleEndian.AppendUint16(wide, u)
	}
	same := text("the same first kilobytes", 8<<10)
	kinds := map[string][]byte{
		"empty":    {},
		"one-byte": {'x'},
		"newline":  {'\n'},
		"short":    []byte("shorter than any fingerprint\n"),
		"nul":      bytes.Repeat([]byte{0}, 70<<10),
		"invalid":  bytes.Repeat([]byte("\xff\xfe\xc3\x28 and \xf0\x28\x8c\x28\n"), 5000),
		"utf-16":   wide,
		"crlf":     bytes.Repeat([]byte("carriage return\r\n\r\n"), 5000),
		"percent":  bytes.Repeat([]byte("%s %d %n %!v(MISSING) %%\n"), 4000),
		"every":    bytes.Repeat(every, 300),
		"partial":  append(text("whole", 70<<10), "no end of this line"...),
		"twin-a":   join(same, []byte("a\n")),
		"twin-b":   join(same, []byte("b\n")),
		"twin-c":   join(same, []byte("a\n")),
	}
	n := newRig(t).node
	n.logs = nil
	for name, b := range kinds {
		n.write(name+".log", b)
		n.logs = append(n.logs, n.entry(name))
	}
	n.start()
	n.exactAll(kinds)
	// All grow, some in the middle of a line, and over a restart.
	for round := range 2 {
		for name, b := range kinds {
			more := fmt.Appendf(nil, " more of %s %d", name, round)
			n.write(name+".log", more)
			kinds[name] = join(b, more)
		}
		if round == 1 {
			n.crash()
			n.start()
		}
		n.exactAll(kinds)
	}
}

// A line that grows bit by bit is whole at the centre, whatever was sent when.
func TestPartialLastLine(t *testing.T) {
	n, want := began(t)
	for i := range 5 {
		part := fmt.Appendf(nil, "part %d, ", i)
		n.write("app.log", part)
		want = join(want, part)
		n.exact("app", want)
	}
	n.write("app.log", []byte("end\nnext"))
	n.exact("app", join(want, []byte("end\nnext")))
}

func TestVeryLongLine(t *testing.T) {
	size := 100 << 20
	if testing.Short() || raced {
		size = 32 << 20
	}
	t.Parallel()
	n := newRig(t, func(r *rig) { r.receiving.RotateSize = 16 << 20 }).node
	line := make([]byte, size)
	for i := 0; i+8 <= len(line); i += 8 {
		le.LittleEndian.PutUint64(line[i:], uint64(i)*0x9e3779b97f4a7c15|0x8080808080808080) // no newline in it
	}
	line[size-1] = '\n'
	n.write("app.log", line)
	n.start()
	n.exact("app", line)
	n.write("app.log", []byte("a short one\n"))
	n.exact("app", append(line, "a short one\n"...))
}

// What isn't a regular file is refused, and the others go on.
func TestSpecialFilesAreRefused(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.must(syscall.Mkfifo(n.path("fifo.log"), 0o644))
	n.must(os.Mkdir(n.path("directory.log"), 0o755))
	special := []string{"fifo", "directory"}
	// Links to a device must not lead out of what is allowed, and a node of its own isn't always permitted.
	if err := unix.Mknod(n.path("device.log"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))); err != nil {
		n.symlink("/dev/zero", "device.log")
	}
	special = append(special, "device")
	want := text("good", 90<<10)
	n.write("app.log", want)
	for _, name := range special {
		n.logs = append(n.logs, n.entry(name))
	}
	n.start()
	n.exact("app", want)
	for _, name := range special {
		n.eventually(name+" to be refused", func() error {
			if s := n.status(name); s.State != forward.Failed || s.LastError == "" {
				return fmt.Errorf("%s %q", s.State, s.LastError)
			}
			return nil
		})
		n.must(n.bytes(name, nil))
	}
	// The name may be a regular file's later.
	n.remove("fifo.log")
	n.write("fifo.log", []byte("no fifo any more\n"))
	n.exact("fifo", []byte("no fifo any more\n"))
	n.write("app.log", []byte("more\n"))
	n.exact("app", join(want, []byte("more\n")))
}

// TestPermissionLostAndRegained runs the whole pipe as another user, since root may read everything.
func TestPermissionLostAndRegained(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv("LOGFORWARD_TEST_NOBODY") != "" {
		permissionLostAndRegained(t)
		return
	}
	t.Parallel()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "pipe-permission")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	asNobody(t, dir, nobody, "TestPermissionLostAndRegained")
}

func permissionLostAndRegained(t *testing.T) {
	n := newRig(t).node
	want := text("first", 90<<10)
	n.write("app.log", want)
	n.start()
	n.exact("app", want)
	denied := func() {
		t.Helper()
		n.eventually("the missing permission to be told", func() error {
			if s := n.status("app"); s.State != forward.Failed || !strings.Contains(s.LastError, "permission") {
				return fmt.Errorf("%s %q", s.State, s.LastError)
			}
			return nil
		})
	}
	// What is open stays readable; the next generation isn't, until it is.
	n.must(os.Chmod(n.path("app.log"), 0))
	second := text("second", 30<<10)
	n.write("next", second)
	n.must(os.Chmod(n.path("next"), 0))
	n.rename("app.log", "app.log.1")
	n.rename("next", "app.log")
	denied()
	n.must(n.bytes("app", want))
	n.must(os.Chmod(n.path("app.log"), 0o600))
	want = join(want, second)
	n.exact("app", want)

	// Lost over a restart: the search goes on, and nothing is given up.
	n.stop()
	third := text("third", 30<<10)
	n.write("app.log", third)
	n.must(os.Chmod(n.path("app.log"), 0))
	n.start()
	denied()
	n.must(os.Chmod(n.path("app.log"), 0o600))
	n.exact("app", join(want, third))

	// The directory.
	n.must(os.Chmod(n.dir, 0))
	n.round()
	n.must(os.Chmod(n.dir, 0o755))
	n.write("app.log", []byte("end\n"))
	n.exact("app", join(want, third, []byte("end\n")))
	if gone, err := filepath.Glob(n.path("*")); err != nil || len(gone) != 2 {
		t.Error(errors.Join(err, fmt.Errorf("files %v", gone)))
	}
}
