package main

import (
	"fmt"
	"strconv"
	"time"

	"logforward/internal/broker"
	"logforward/internal/fleet"
)

const (
	// shownMissing is how many nodes that haven't confirmed are shown; JSON has them all.
	shownMissing = 20
	// lineEvery is how often progress is told where it can't be drawn in place.
	lineEvery = time.Second
)

// rollView shows a roll call: on a terminal in place, elsewhere a line a second while something changes.
type rollView struct {
	p        *program
	now      func() time.Time // the broker's
	began    time.Time
	terminal bool
	last     string
	shown    time.Time
}

func (p *program) rollView(f *fleet.Fleet) *rollView {
	return &rollView{p: p, now: f.Now, began: time.Now(), terminal: isTerminal(p.out) && !p.json}
}

// pauses tells which hold.
func (v *rollView) pauses(list []broker.Pause) {
	if v.p.json {
		return
	}
	if len(list) == 0 {
		fmt.Fprintln(v.p.out, "no pause holds")
	}
	for _, q := range list {
		text := fmt.Sprintf("%s paused since %s by %s", glob(q.Match), q.Since.UTC().Format(time.RFC3339), q.By)
		if !q.Until.IsZero() {
			text += fmt.Sprintf(" until %s, %s more", q.Until.UTC().Format(time.RFC3339), q.Until.Sub(v.now()).Round(time.Second))
		}
		if q.Reason != "" {
			text += ": " + q.Reason
		}
		fmt.Fprintln(v.p.out, harmless(text))
	}
}

// progress shows how far the call is.
func (v *rollView) progress(s fleet.Summary) {
	text := counted(&s)
	if v.p.json || text == v.last || !v.terminal && time.Since(v.shown) < lineEvery && v.last != "" {
		return
	}
	if v.last == "" && !s.Listed {
		return // nobody is known yet
	}
	v.last, v.shown = text, time.Now()
	line := fmt.Sprintf("%s  %.1f s", text, time.Since(v.began).Seconds())
	if v.terminal {
		if columns, _ := window(v.p.out); len(line) >= columns {
			line = line[:columns-1]
		}
		fmt.Fprintf(v.p.out, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(v.p.out, line)
}

// end makes room for what comes behind the progress.
func (v *rollView) end() {
	if v.terminal && v.last != "" {
		fmt.Fprint(v.p.out, "\r\x1b[K")
	}
}

// counted is a summary in a line.
func counted(s *fleet.Summary) string {
	text := fmt.Sprintf("%d of %d nodes have confirmed", s.Confirmed, s.Nodes)
	if s.Paused > 0 {
		text += fmt.Sprintf(", %d of them are paused", s.Paused)
	}
	if s.Waiting > 0 {
		text += fmt.Sprintf("; %s wait", size(s.Waiting))
	}
	return text
}

// result tells how it ended, and who is missing.
func (v *rollView) result(s *fleet.Summary) {
	out := v.p.out
	fmt.Fprintln(out, counted(s))
	if !s.Listed {
		fmt.Fprintln(out, "the list of all nodes couldn't be read to its end in time: there may be more; give a longer --wait")
	}
	if len(s.Missing) == 0 {
		return
	}
	rows := [][]string{{"NOT CONFIRMED", "LAST SEEN", "STATE"}}
	for i := range s.Missing {
		if i == shownMissing {
			rows = append(rows, []string{"… and " + strconv.Itoa(len(s.Missing)-i) + " more", "", "see them with --json"})
			break
		}
		n := &s.Missing[i]
		seen := "never"
		if !n.Seen.IsZero() {
			seen = n.Seen.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{n.Identity, seen, missing(n, s)})
	}
	_ = table(out, rows...) // standard output is gone: nobody reads on
}

// missing says what is known of a node that hasn't confirmed.
func missing(n *fleet.Node, s *fleet.Summary) string {
	wanted := map[bool]string{true: "pauses", false: "goes on"}[n.Pause]
	switch {
	case !n.Heard && !n.Alive(s.Began):
		return "away: it " + wanted + " when it comes back"
	case !n.Heard:
		return "sent logs lately, but says nothing"
	case n.Said == nil:
		return "connected, and says nothing of pauses: is it of an old version?"
	case n.Said.Paused == n.Pause:
		return "connected, and has yet to hear the latest"
	case n.Said.Paused:
		return "connected, and still paused"
	}
	return "connected, and STILL PUBLISHES"
}
