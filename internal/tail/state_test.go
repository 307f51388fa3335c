package tail

import (
	"encoding/json"
	"strings"
	"testing"
)

// A state that can't be true is refused, so that the caller starts otherwise.
func TestStateRefused(t *testing.T) {
	r := positions(t)
	r.save()
	good, err := json.Marshal(r.state)
	r.must(err)
	id := r.state.Generations[0].ID
	for _, c := range []struct{ name, old, new string }{
		{"version", `"version":1`, `"version":2`},
		{"no version", `"version":1`, `"version":0`},
		{"hole", `{"position":4,"length":4`, `{"position":5,"length":4`},
		{"overlap", `{"position":4,"length":4`, `{"position":3,"length":4`},
		{"too long", `{"position":0,"length":4`, `{"position":0,"length":18446744073709551615`},
		{"unknown generation", `"generation":"` + id, `"generation":"1-1-1-1-1`},
		{"no id", `{"id":"` + id, `{"id":"x`},
		{"released beyond", `"released":0`, `"released":99`},
		{"offset", `"offset":9`, `"offset":3`},
		{"negative", `"offset":9`, `"offset":-9`},
		{"segment beyond what was read", `"length":5,"generation":"` + id + `","offset":4`, `"length":6,"generation":"` + id + `","offset":4`},
		{"segment back", `"length":5,"generation":"` + id + `","offset":4`, `"length":5,"generation":"` + id + `","offset":1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(string(good), c.old) {
				t.Fatalf("no %s in %s", c.old, good)
			}
			var s State
			r.must(json.Unmarshal([]byte(strings.Replace(string(good), c.old, c.new, 1)), &s))
			if err := New(r.cfg).Open(s); err == nil {
				t.Fatal("accepted")
			}
		})
	}
	var s State
	r.must(json.Unmarshal(good, &s))
	l := New(r.cfg)
	r.must(l.Open(s))
	r.must(l.Close())
	if n := len(good); n > 2000 {
		t.Errorf("state takes %d bytes", n)
	}
}
