package forward

import (
	"bytes"
	"testing"
)

func TestForwardDeliversExactBytes(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	r := seeded(t)
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"lines", lines(r, 5000)},
		{"every byte", bytes.Repeat(every, 64)},
		{"percent", []byte("100%s done %d %!v\n")},
		{"carriage returns and NULs", []byte("a\r\nb\x00\x00\r\n\n\n\x00")},
		{"UTF-16", []byte("h\x00i\x00\n\x00")},
		{"one line of 3 MiB", append(bytes.Repeat([]byte("y"), 3<<20), '\n')},
		{"no end of line", []byte("half a line")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, c)
			name := "log " + tt.name
			n.append(name, tt.data)
			n.start(n.log(name))
			n.delivered(name, tt.data)
			more := []byte("and later this\n")
			n.append(name, more)
			n.delivered(name, append(bytes.Clone(tt.data), more...))
			n.stop()
		})
	}
}
