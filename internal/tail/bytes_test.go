package tail

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestBytesAnyContent(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, content := range map[string][]byte{
		"every value": every, "NULs": make([]byte, 5000), "percent": []byte("100% %s %d %n %!\n"),
		"CRLF": []byte("a\r\nb\r\n"), "UTF-16": []byte("\xff\xfea\x00\n\x00b\x00"), "invalid UTF-8": []byte("\xc3\x28\xa0\xa1\n\xf0\x28"),
		"no newline": []byte("half"), "one byte": {7}, "newlines": bytes.Repeat([]byte("\n"), 3000),
		"same": bytes.Repeat([]byte("tick\n"), 2000),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			r.buf = make([]byte, 77)
			r.writeBytes("app.log", content)
			r.drain()
			r.writeBytes("app.log", content)
			r.restart()
			r.out, r.pieces = nil, nil
			r.drain()
			r.rename("app.log", "app.log.1")
			r.writeBytes("app.log", content)
			r.drain()
			r.wantBytes(bytes.Repeat(content, 3))
			r.wantLosses(0)
			r.restart()
			r.out, r.pieces = nil, nil
			r.drain()
			r.wantBytes(bytes.Repeat(content, 3))
		})
	}
}

func TestBytesSparseHole(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "a")
	r.drain()
	r.must(os.Truncate(r.path, 200_000))
	r.write("app.log", "b")
	r.drain()
	r.want("a" + strings.Repeat("\x00", 199_999) + "b")
}

func TestBytesHalfLineIsNeverLost(t *testing.T) {
	r := newRig(t).open()
	for _, s := range []string{"half", " and", " more", "\nnext"} {
		r.write("app.log", s)
		r.drain()
		r.restart()
		r.release()
	}
	r.want("half and more\nnext")
}

func TestBytesVeryLongLine(t *testing.T) {
	if testing.Short() {
		t.Skip("100 MiB")
	}
	r := newRig(t).open()
	r.buf = make([]byte, 1<<20)
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	f, err := os.Create(r.path)
	r.must(err)
	defer f.Close()
	for range 100 {
		_, err := f.Write(block)
		r.must(err)
	}
	n := 0
	for {
		p, err := r.log.Peek(r.buf)
		r.must(err)
		if len(p.Data) == 0 {
			break
		}
		for i := 0; i < len(p.Data); i += len(block) {
			off := (n + i) % len(block)
			if !bytes.Equal(p.Data[i:min(len(p.Data), i+len(block)-off)], block[off:min(len(block), off+len(p.Data)-i)]) {
				t.Fatalf("bytes at %d differ", n+i)
			}
		}
		n += len(p.Data)
		r.must(r.log.Advance(uint64(len(p.Data))))
	}
	if n != 100<<20 {
		t.Fatalf("%d bytes", n)
	}
	if got := len(r.log.State().Segments); got != 1 {
		t.Fatalf("%d segments", got)
	}
}

// Peek again, also with a bigger buffer, gives the same bytes.
func TestBytesPeekDoesNotConsume(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a)
	for _, n := range []int{1, 10, 10, 500, 5000} {
		p, err := r.log.Peek(make([]byte, n))
		r.must(err)
		if string(p.Data) != a[:min(n, len(a))] || p.Position != 0 || !p.NewSegment || p.More != (n < len(a)) {
			t.Fatalf("%d: %+v", n, p)
		}
	}
	if err := r.log.Advance(uint64(len(a)) + 1); err == nil {
		t.Fatal("advanced beyond what was peeked")
	}
}
