package receive

import (
	"fmt"
	"testing"

	"logforward/internal/chunk"
)

// Which parts of what was set aside lie nowhere else, by what the record says and this receiver's files hold.
func TestOpenAreThePartsThatNobodyHas(t *testing.T) {
	t.Parallel()
	p := &asidePiece{Epoch: 2, From: 10, To: 20}
	at := func(epoch, position uint64) *chunk.Place { return &chunk.Place{Epoch: epoch, Position: position} }
	other := func(epoch, from, to uint64) span { return span{Receiver: "r2", Epoch: epoch, From: from, To: to} }
	for name, c := range map[string]struct {
		learnt *chunk.Place
		ranges []span
		own    []span
		want   string
	}{
		"nothing is learnt":                        {nil, nil, nil, "[]"},
		"the log hasn't come to that epoch":        {at(1, 100), []span{other(2, 20, 30)}, nil, "[]"},
		"the log has gone on behind all":           {at(2, 30), nil, nil, "[[10 20]]"},
		"the log has come into it":                 {at(2, 15), nil, nil, "[[10 15]]"},
		"the log hasn't come to it":                {at(2, 10), nil, nil, "[]"},
		"a later epoch, and nobody was behind it":  {at(3, 5), nil, nil, "[]"},
		"a later epoch, and somebody was":          {at(3, 5), []span{other(2, 20, 30)}, nil, "[[10 20]]"},
		"a later epoch, which others have":         {at(3, 100), []span{other(3, 0, 100)}, nil, "[]"},
		"an earlier epoch has such positions":      {at(2, 30), []span{other(1, 0, 100)}, nil, "[[10 20]]"},
		"another one has the middle":               {at(2, 30), []span{other(2, 12, 15)}, nil, "[[10 12] [15 20]]"},
		"another one has all":                      {at(2, 30), []span{other(2, 0, 30)}, nil, "[]"},
		"the record names it for this one":         {at(2, 30), []span{{Receiver: "r1", Epoch: 2, From: 0, To: 30}}, nil, "[[10 20]]"}, // it was cut since
		"this one has put it back":                 {at(2, 30), []span{{Receiver: "r1", Epoch: 2, From: 10, To: 20, Back: true}}, nil, "[]"},
		"this one's files have it":                 {at(2, 30), nil, []span{{Epoch: 2, From: 10, To: 20}}, "[]"},
		"this one's files have what is behind 15":  {at(2, 30), nil, []span{{Epoch: 2, From: 0, To: 30, Behind: 15}}, "[[10 15]]"},
		"this one's files have an earlier epoch's": {at(2, 30), nil, []span{{Epoch: 1, From: 0, To: 30}}, "[[10 20]]"},
	} {
		r := &record{Learnt: c.learnt, Ranges: c.ranges}
		if got := fmt.Sprint(r.open(p, "r1", c.own)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if got := r.leftBehind(p, "r1", c.own); got != (c.want != "[]") {
			t.Errorf("%s: left behind %t", name, got)
		}
	}
}

// Only what a digest proves is put back, and nothing where one contradicts.
func TestLacksIsWhatADigestProves(t *testing.T) {
	t.Parallel()
	p := &asidePiece{Epoch: 2, From: 10, To: 20}
	digests := map[uint64]chunk.Digest{10: 1, 15: 5, 20: 9}
	for name, c := range map[string]struct {
		proofs []Proof
		ranges []span
		want   string
	}{
		"no proof":                    {nil, nil, "[]"},
		"at its end":                  {[]Proof{{2, 20, 9}}, nil, "[[10 20]]"},
		"in its middle":               {[]Proof{{2, 15, 5}}, nil, "[[10 15]]"},
		"at both":                     {[]Proof{{2, 20, 9}, {2, 15, 5}}, nil, "[[10 20]]"},
		"at its beginning":            {[]Proof{{2, 10, 1}}, nil, "[]"},
		"behind it":                   {[]Proof{{2, 25, 9}}, nil, "[]"},
		"of another epoch":            {[]Proof{{1, 20, 9}}, nil, "[]"},
		"another digest at its end":   {[]Proof{{2, 15, 5}, {2, 20, 8}}, nil, "[]"},
		"another digest before a fit": {[]Proof{{2, 15, 4}, {2, 20, 9}}, nil, "[]"},
		"a gap's end":                 {[]Proof{{2, 20, chunk.AfterGap(20)}}, nil, "[]"},
		"a gap's end, behind a fit":   {[]Proof{{2, 20, chunk.AfterGap(20)}, {2, 15, 5}}, nil, "[[10 15]]"},
		"where none is its own":       {[]Proof{{2, 17, 7}}, nil, "[]"},
		"others have up to 15":        {[]Proof{{2, 20, 9}}, []span{{Receiver: "r2", Epoch: 2, From: 0, To: 15}}, "[[15 20]]"},
		"others have up to 12":        {[]Proof{{2, 20, 9}}, []span{{Receiver: "r2", Epoch: 2, From: 0, To: 12}}, "[]"}, // what is before the rest has no digest
	} {
		r := &record{Learnt: &chunk.Place{Epoch: 2, Position: 30}, Ranges: c.ranges}
		if got := fmt.Sprint(r.lacks(p, "r1", nil, c.proofs, digests)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
