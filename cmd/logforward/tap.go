package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/choria-io/fisk"

	"logforward/internal/settings"
	"logforward/internal/tap"
)

func (p *program) tapCommand(app *fisk.Application) {
	var what, forHow string
	var set *given
	c := p.command(app, "tap", "Follow a log live, as its node sends it", `
Shows a log's bytes while they are on their way, beside the receivers, which don't notice. An * stands for all
identities or all logs: then each line begins with whose it is. What isn't lines, and what is missing in this view, is told on
standard error; the central files have all of it.

    logforward tap web1.example.net/nginx-access --url nats://logs.example.net
    logforward tap '*/nginx-error' --choria ~/.choriarc | grep -i timeout

With --json each chunk is a line of JSON, its bytes in base64. It needs the right to subscribe to the nodes' subjects.
`, func(ctx context.Context) error {
		identity, log, err := splitLog(what)
		if err != nil {
			return err
		}
		lasts, err := positive("--for", forHow)
		if err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		options, prefix, err := v.centre()
		if err != nil {
			return misconfigured(err)
		}
		options.Name, options.Logger = "logforward tap", p.logger(v)
		s := &tapped{p: p, named: identity == "*" || log == "*", terminal: isTerminal(p.out)}
		t := &tap.Tap{Broker: options, Prefix: prefix, Identity: identity, Log: log, Show: s.show, Listening: s.listening, For: lasts}
		return t.Run(ctx)
	})
	c.Arg("log", "IDENTITY/LOG; * for either means all").Required().StringVar(&what)
	c.Flag("for", "End by itself after this long, such as 30s or 5m").StringVar(&forHow)
	set = p.settings(c, settings.Fleet)
}

// tapped shows what a tap sees.
type tapped struct {
	p        *program
	named    bool // more than one log: say whose a line is
	terminal bool
	rest     map[string][]byte // of several logs, the beginning of a line
}

// maxRest is how long a line without an end may grow, in bytes.
const maxRest = 8 << 10

func (s *tapped) listening() {
	if isTerminal(s.p.err) {
		fmt.Fprintln(s.p.err, "logforward: listening; Ctrl-C ends")
	}
}

func (s *tapped) show(e *tap.Event) error {
	if s.p.json {
		b, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write an event: %w", err)
		}
		s.p.printed = true
		_, err = s.p.out.Write(append(b, '\n'))
		return err
	}
	name := e.Identity + "/" + e.Log
	switch {
	case e.Missing > 0:
		s.note("%s: %d bytes from position %d on didn't come this way; the central file has them", name, e.Missing, e.Position)
	case e.Gap != nil:
		lost := fmt.Sprintf("%d bytes", e.Gap.Bytes)
		if e.Gap.Bytes < 0 {
			lost = "an unknown number of bytes"
		}
		s.note("%s: lost on the node: %s (%s)", name, lost, e.Gap.Cause)
	case e.Fork:
		s.note("%s: what follows position %d doesn't continue what came before", name, e.Position)
	}
	if !s.named {
		_, err := s.p.out.Write(s.safe(e.Data))
		return err
	}
	return s.lines(name, e.Data)
}

func (s *tapped) note(format string, args ...any) {
	fmt.Fprintf(s.p.err, "logforward: %s\n", harmless(fmt.Sprintf(format, args...)))
}

// lines writes whole lines, each with the name before it.
func (s *tapped) lines(name string, data []byte) error {
	if s.rest == nil {
		s.rest = map[string][]byte{}
	}
	data = append(s.rest[name], data...)
	var out bytes.Buffer
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 && len(data) < maxRest {
			break
		}
		line := data
		if i >= 0 {
			line = data[:i]
		}
		fmt.Fprintf(&out, "%s: %s\n", harmless(name), s.safe(line))
		data = data[min(len(line)+1, len(data)):]
	}
	if s.rest[name] = bytes.Clone(data); len(data) == 0 {
		delete(s.rest, name)
	}
	_, err := io.Copy(s.p.out, &out)
	return err
}

// safe is what may be written to a terminal: a log's bytes are anybody's, and could play with it.
// Into a pipe or a file they go as they are.
func (s *tapped) safe(data []byte) []byte {
	if !s.terminal {
		return data
	}
	var b strings.Builder
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if text := string(data[:n]); r == '\n' || r == '\t' {
			b.WriteString(text)
		} else {
			b.WriteString(harmless(text))
		}
		data = data[n:]
	}
	return []byte(b.String())
}
