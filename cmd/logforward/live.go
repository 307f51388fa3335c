package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/receive"
)

// watch shows where each log stands until ctx ends, and gives the last it knew: in place on a
// terminal, four times a second; elsewhere one line a log and second.
func (s *solo) watch(ctx context.Context) []control.LogStatus {
	terminal := isTerminal(s.out) && !s.json
	every := time.Second
	if terminal {
		every = 250 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last []control.LogStatus
	drawn := 0
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			return last
		case <-ticker.C:
		}
		status, err := s.forwarding.node.Status(ctx, control.StatusRequest{})
		if err != nil {
			continue // it is ending
		}
		last = status.Logs
		switch {
		case s.json:
		case terminal:
			drawn = s.draw(last, drawn, time.Since(begun))
		default:
			for _, l := range last {
				fmt.Fprintf(s.out, "%s %s: %s received, %s, lag %s %.1f s\n", harmless(l.Log), l.State, size(l.Confirmed), speed(l.Rate), size(l.LagBytes), l.LagSeconds)
			}
		}
	}
}

// draw writes the table over the one before, which had drawn lines. What doesn't fit the window is
// left out: a line that wraps, or scrolls away, couldn't be drawn over.
func (s *solo) draw(logs []control.LogStatus, drawn int, since time.Duration) int {
	columns, height := window(s.out)
	rows := [][]string{{"LOG", "STATE", "RECEIVED", "RATE", "LAG", "SECONDS"}}
	for _, l := range logs {
		rows = append(rows, []string{l.Log, l.State, size(l.Confirmed), speed(l.Rate), size(l.LagBytes), strconv.FormatFloat(l.LagSeconds, 'f', 1, 64)})
	}
	var text strings.Builder
	if err := table(&text, rows...); err != nil {
		return drawn
	}
	for _, l := range logs {
		if l.Error != "" {
			fmt.Fprintf(&text, "%s: %s\n", harmless(l.Log), harmless(l.Error))
		}
	}
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if room := max(height-2, 1); len(lines) > room {
		lines = append(lines[:room-1], fmt.Sprintf("… and %d more lines", len(lines)-room+1))
	}
	lines = append(lines, fmt.Sprintf("%s, into %s; Ctrl-C ends", since.Round(time.Second), s.output))
	var b strings.Builder
	if drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", drawn)
	}
	for _, line := range lines {
		if r := []rune(line); len(r) >= columns {
			line = string(r[:columns-1])
		}
		b.WriteString(line + "\n")
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return 0
	}
	return len(lines)
}

// outcome is one row of the final table.
type outcome struct {
	Log       string `json:"log"`              // its name
	Path      string `json:"path"`             // of the file on the node
	Bytes     int64  `json:"bytes"`            // size of the file on the node, at the end
	Confirmed int64  `json:"confirmed"`        // bytes that lie centrally
	Central   string `json:"central"`          // path of the central file that was written last; empty: none
	SHA256    string `json:"sha256,omitempty"` // of the central bytes, in hex, where they are the file's
	Verdict   string `json:"verdict"`          // identical, identical with the bytes to come, different, nothing yet, rotated, the file is gone or unknown; with the gaps, if there were any
	Error     string `json:"error,omitempty"`  // why it couldn't be compared
}

// summary compares what lies centrally with the files, byte by byte, and prints it.
func (s *solo) summary(last []control.LogStatus) error {
	var outcomes []outcome
	different := 0
	for _, f := range s.files {
		o := s.compare(f)
		for _, l := range last {
			if l.Log == f.log && l.Gaps > 0 {
				o.Verdict += fmt.Sprintf(", %d gaps", l.Gaps)
			}
		}
		if o.Verdict == "different" {
			different++
		}
		outcomes = append(outcomes, o)
	}
	if s.json {
		if err := s.print(outcomes); err != nil {
			return err
		}
	} else {
		rows := [][]string{{"LOG", "ON THE NODE", "CONFIRMED", "VERDICT", "CENTRAL FILE"}}
		for _, o := range outcomes {
			rows = append(rows, []string{o.Log, strconv.FormatInt(o.Bytes, 10), strconv.FormatInt(o.Confirmed, 10), o.Verdict, o.Central})
		}
		fmt.Fprintln(s.out)
		if err := table(s.out, rows...); err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Error != "" {
				fmt.Fprintf(s.out, "%s: %s\n", harmless(o.Log), harmless(o.Error))
			}
		}
	}
	if different > 0 {
		return fmt.Errorf("the central bytes of %d logs differ from the files", different)
	}
	return nil
}

// digest counts and hashes what is written to it.
type digest struct {
	hash.Hash
	n int64
}

func (d *digest) Write(b []byte) (int, error) {
	d.n += int64(len(b))
	return d.Hash.Write(b)
}

// compare reads both sides. Only the same file's own bytes can be compared: after a rotation
// the central side holds the older generations too.
func (s *solo) compare(f runFile) outcome {
	o := outcome{Log: f.log, Path: f.path, Verdict: "nothing yet"}
	if extents, err := receive.Extents([]string{s.output}, s.identity, f.log); err == nil && len(extents) > 0 {
		o.Central = filepath.Join(s.output, extents[len(extents)-1].File)
	}
	central := &digest{Hash: sha256.New()}
	if _, err := receive.Cat(central, []string{s.output}, s.identity, f.log); err != nil && !errors.Is(err, receive.ErrNoLedger) {
		o.Verdict, o.Error = "unknown", err.Error()
		return o
	}
	o.Confirmed = central.n
	file, err := os.Open(f.path)
	if err != nil {
		o.Verdict, o.Error = "the file is gone", err.Error()
		return o
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil {
		o.Bytes = info.Size()
	}
	if central.n == 0 {
		if o.Bytes == 0 {
			o.Verdict = "identical"
		}
		return o
	}
	local := &digest{Hash: sha256.New()}
	if _, err := io.CopyN(local, file, central.n); errors.Is(err, io.EOF) {
		o.Verdict = "rotated: not compared"
		return o
	} else if err != nil {
		o.Verdict, o.Error = "unknown", err.Error()
		return o
	}
	sum := fmt.Sprintf("%x", central.Sum(nil))
	switch {
	case s.first[f.path] != inode(f.path):
		o.Verdict = "rotated: not compared"
	case sum != fmt.Sprintf("%x", local.Sum(nil)):
		o.Verdict = "different"
	case o.Bytes > o.Confirmed:
		o.Verdict, o.SHA256 = fmt.Sprintf("identical, %d bytes to come", o.Bytes-o.Confirmed), sum
	default:
		o.Verdict, o.SHA256 = "identical", sum
	}
	return o
}
