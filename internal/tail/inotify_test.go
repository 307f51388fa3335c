package tail

import (
	"encoding/binary"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// Events are taken apart as the kernel wrote them; what is cut anywhere is no event.
func TestInotifyEventsCutAtEveryByte(t *testing.T) {
	want := []happened{{1, unix.IN_MODIFY, "app.log"}, {2, unix.IN_DELETE_SELF, ""}, {-1, unix.IN_Q_OVERFLOW, ""}, {3, unix.IN_CREATE, "a file's name of more than sixteen bytes"}}
	var buf []byte
	borders := map[int]int{0: 0}
	for i, e := range want {
		padded := append([]byte(e.name), make([]byte, (16-len(e.name)%16)%16)...)
		buf = binary.NativeEndian.AppendUint32(buf, uint32(e.wd))
		buf = binary.NativeEndian.AppendUint32(buf, e.mask)
		buf = binary.NativeEndian.AppendUint32(buf, 0)
		buf = binary.NativeEndian.AppendUint32(buf, uint32(len(padded)))
		buf = append(buf, padded...)
		borders[len(buf)] = i + 1
	}
	for cut := range len(buf) + 1 {
		var got []happened
		err := each(buf[:cut:cut], func(e happened) { got = append(got, e) })
		n, whole := borders[cut]
		if (err == nil) != whole || whole && len(got) != n || !reflect.DeepEqual(got, want[:len(got)]) && len(got) > 0 {
			t.Fatalf("cut at %d: %+v, %v", cut, got, err)
		}
	}
}

// Two paths to one directory have one watch between them, which goes with the second.
func TestInotifyTwoPathsToOneDirectory(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	r.link(r.dir, "again")
	one, two := w.add(r.name("app.log"), func() {}), make(chan struct{}, 100)
	other := w.add(r.name("again/app.log"), func() { two <- struct{}{} })
	w.remove(one)
	r.write("app.log", "one\n")
	<-two
	w.remove(other)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.notify.dirs) != 0 {
		t.Errorf("%d watches are left", len(w.notify.dirs))
	}
}
