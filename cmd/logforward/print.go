package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// print writes one JSON document.
func (p *program) print(v any) error {
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	p.printed = true
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// table writes aligned columns; the first row is the heading. Nothing in a cell can play with the terminal.
func table(w io.Writer, rows ...[]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = harmless(cell)
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// harmless replaces what a file name or an error from elsewhere may hold: control and format characters.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// harmlessLines is harmless for a text of several lines.
func harmlessLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = harmless(line)
	}
	return strings.Join(lines, "\n")
}

func size[T int64 | uint64 | int](n T) string {
	if n < 0 {
		n = 0
	}
	return humanize.IBytes(uint64(n))
}

func speed(bytesPerSecond float64) string {
	return humanize.IBytes(uint64(max(bytesPerSecond, 0))) + "/s"
}

// window is a terminal's size; 80 by 24 where it doesn't say.
func window(w io.Writer) (columns, lines int) {
	if n, ok := w.(*noted); ok {
		w = n.Writer
	}
	if f, ok := w.(*os.File); ok {
		if s, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && s.Col > 0 && s.Row > 0 {
			return int(s.Col), int(s.Row)
		}
	}
	return 80, 24
}

// isTerminal tells whether w is one.
func isTerminal(w io.Writer) bool {
	if n, ok := w.(*noted); ok {
		w = n.Writer
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
