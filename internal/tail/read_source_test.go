package tail

import "testing"

// What more may be read from can be read anywhere, also behind where reading stands, and what isn't there is gone.
func TestReadSource(t *testing.T) {
	r := newRig(t)
	r.write("app.log", "of the first\n")
	r.open().drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "of the second\n")
	r.drain()
	r.write("app.log.1", "late\n")
	list := r.log.Sources()
	if len(list) != 2 {
		t.Fatalf("sources %v", list)
	}
	for _, c := range []struct {
		id   string
		off  int64
		want string
	}{{list[0].ID, 7, "first\nlate\n"}, {list[1].ID, 0, "of the second\n"}, {list[0].ID, 5, ""}} {
		p := make([]byte, len(c.want))
		if err := r.log.ReadSource(c.id, p, c.off); err != nil || string(p) != c.want {
			t.Errorf("%s at %d: %q, %v; want %q", c.id, c.off, p, err, c.want)
		}
	}
	isErr(t, r.log.ReadSource(list[1].ID, make([]byte, 5), 10), ErrGone)
	isErr(t, r.log.ReadSource(list[1].ID+"0", make([]byte, 5), 0), ErrGone)
	r.crash()
	if err := r.log.ReadSource(list[0].ID, nil, 0); err == nil {
		t.Error("a closed log was read")
	}
}
