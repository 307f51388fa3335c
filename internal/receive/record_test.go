package receive

import (
	"testing"

	"logforward/internal/chunk"
)

// A mark is committed where the record's ranges say so, whoever wrote the record last and wherever it stands.
func TestRecordCoversByItsRangesAlone(t *testing.T) {
	t.Parallel()
	ours := span{Receiver: "r1", File: "a/l.log", Epoch: 2, From: 100, To: 200}
	at := func(position uint64) mark {
		return mark{Place: chunk.Place{Epoch: 2, Position: position}, File: "a/l.log", From: 100}
	}
	for name, test := range map[string]struct {
		r    record
		m    mark
		want bool
	}{
		"all of it":              {record{Writer: "r1/x", Place: at(200).Place, Ranges: []span{ours}}, at(200), true},
		"another wrote on top":   {record{Writer: "r2/x", Place: at(300).Place, Ranges: []span{ours, {Receiver: "r2", Epoch: 2, From: 200, To: 300}}}, at(200), true},
		"not so far":             {record{Writer: "r1/x", Place: at(200).Place, Ranges: []span{ours}}, at(201), false},
		"another has this range": {record{Writer: "r1/x", Place: at(300).Place, Ranges: []span{{Receiver: "r2", Epoch: 2, From: 100, To: 300}}}, at(200), false},
		"another epoch":          {record{Writer: "r1/x", Place: chunk.Place{Epoch: 3, Position: 300}, Ranges: []span{{Receiver: "r1", Epoch: 3, From: 100, To: 300}}}, at(200), false},
		"another begin":          {record{Writer: "r1/x", Place: at(300).Place, Ranges: []span{{Receiver: "r1", Epoch: 2, From: 50, To: 300}}}, at(200), false},
		"a place without bytes":  {record{Writer: "r2/x", Place: at(200).Place}, mark{Place: at(200).Place}, true},
		"no such place":          {record{Writer: "r1/x", Place: at(199).Place}, mark{Place: at(200).Place}, false},
	} {
		if got := test.r.covers("r1", &test.m); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
