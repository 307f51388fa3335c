package tail

import "testing"

// A node that lost its state twice has two ids of one file at the centre, of which the later tells how far it was read. It is
// followed once, and what comes behind it, too.
func TestResumeFileOfTwoIDs(t *testing.T) {
	content := lines("a", 300)
	for _, live := range []bool{true, false} {
		r := newRig(t).open()
		r.write("app.log", content[:5000])
		r.drain()
		first := r.log.Sources()[0]
		r.crash()
		r.write("app.log", content[5000:7000])
		r.now, r.state = r.now.Add(1e9), State{}
		r.open()
		r.drain()
		second := r.log.Sources()[0]
		if second.ID == first.ID {
			t.Fatal("one id")
		}
		last, others, want := second, []Source{first}, content[7000:]+"next\nand more\n"
		if !live {
			r.rename("app.log", "app.log.1")
			r.write("app.log", "third\n")
			r.drain()
			all := r.log.Sources()
			last, others, want = all[len(all)-1], []Source{first, second}, "next\nand more\n"
		}
		r.crash()
		l := New(r.cfg)
		r.must(l.Resume(9000, last, others, nil))
		t.Cleanup(func() { _ = l.Close() })
		r.log, r.out, r.pieces = l, nil, nil
		if live {
			r.write("app.log", content[7000:])
		}
		r.drain()
		r.rename("app.log", "app.log.2")
		r.write("app.log", "next\n")
		r.drain()
		r.write("app.log", "and more\n")
		r.drain()
		if string(r.out) != want || l.Pending() != 0 {
			t.Errorf("live %v: got %s, want %s; %d bytes pending", live, brief(r.out), brief([]byte(want)), l.Pending())
		}
	}
}
