package forward

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A log whose writer maps it comes as it is written, and has no lag for the room that isn't filled yet.
func TestForwardALogThatIsWrittenThroughAMapping(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	want := []byte("one\n")
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	const room = 1 << 20
	if err := os.Truncate(n.path("app"), room); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(n.path("app"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.Seek(int(f.Fd()), room-1, unix.SEEK_DATA); err != unix.ENXIO {
		t.Skip("the file system keeps no holes")
	}
	m, err := unix.Mmap(int(f.Fd()), 0, room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		more := lines(seeded(t), 50)
		copy(m[len(want):], more)
		want = append(want, more...)
		n.delivered("app", want)
		eventually(t, "no lag", func() bool { s := n.status("app"); return s.State == Idle && s.LagBytes == 0 })
	}
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(n.path("app"), int64(len(want))); err != nil {
		t.Fatal(err)
	}
	want = append(want, "last\n"...)
	n.append("app", []byte("last\n"))
	n.delivered("app", want)
	if s := n.status("app"); s.Gaps != 0 || s.Forks != 0 {
		t.Errorf("%+v", s)
	}
}
