package receive

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/chunk"
)

// quarantine takes a message that can never be appended out of the way. It is kept whole, by the
// next commit, and terminated; it never blocks the others.
func (p *partition) quarantine(d *delivery) {
	raw := d.raw
	if raw == nil { // well-formed, and refused for another reason
		raw = &rawMessage{subject: d.subject.String(), header: d.chunk.Header(chunk.Plain), payload: d.chunk.Data, reply: d.reply, err: d.err}
	}
	p.bad = append(p.bad, raw)
	p.r.metrics.quarantined.Inc()
	p.r.logger.Error("message can't be used and goes into quarantine", "subject", raw.subject, "bytes", len(raw.payload), "error", raw.err)
	n := int64(len(raw.text()))
	p.pending, p.rubbish = p.pending+n, p.rubbish+n
	p.touchAcks()
}

// keepQuarantine writes messages below <state>/quarantine, one file each, synced. When the
// directory has reached its size they are only counted and reported.
func (r *Receiver) keepQuarantine(bad []*rawMessage) error {
	if len(bad) == 0 {
		return nil
	}
	dir := filepath.Join(r.config.State, "quarantine")
	if err := makeDir(dir); err != nil {
		return err
	}
	r.quarantineLock.Lock()
	defer r.quarantineLock.Unlock()
	// Many are synced at once: a node that sends nothing but rubbish shall not hold up the commits of
	// others for an fsync each.
	var all *os.File
	if len(bad) > fewFiles && r.syncfs != nil {
		f, err := os.Open(dir) // before the first write, for its errors
		if err != nil {
			return err
		}
		defer f.Close()
		all = f
	}
	kept := false
	for _, m := range bad {
		text := m.text()
		if r.quarantined+int64(len(text)) > r.config.QuarantineSize && r.now().Sub(r.measured) > measureEvery {
			n, err := dirSize(dir) // somebody may have cleared it
			if err != nil {
				return err
			}
			r.quarantined, r.measured = n, r.now()
		}
		if r.quarantined+int64(len(text)) > r.config.QuarantineSize {
			r.logger.Error("quarantine is full; the message is dropped", "subject", m.subject, "bytes", len(m.payload), "directory", dir, "limit", r.config.QuarantineSize)
			r.metrics.quarantineDropped.Inc()
			continue
		}
		name := filepath.Join(dir, r.now().UTC().Format("20060102T150405.000000Z")+"-"+ackName(m.reply)+".msg")
		if err := r.disk.do(opQuarantine, func() error { return writeFile(name, text, all == nil) }); err != nil {
			return err
		}
		r.quarantined += int64(len(text))
		kept = true
	}
	if !kept {
		return nil
	}
	if all != nil {
		if err := r.disk.syncFS(all); err != nil {
			return err
		}
	}
	return r.disk.do(opSyncDir, func() error { return syncDir(dir) })
}

// measureEvery is how often a full quarantine is looked at again.
const measureEvery = time.Minute

// ackName makes a file name of an acknowledgement's subject: consumer and sequences, unique enough.
func ackName(reply string) string {
	parts := strings.Split(reply, ".")
	if len(parts) > 4 {
		parts = parts[len(parts)-4:]
	}
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' {
			return c
		}
		return '_'
	}, strings.Join(parts, "-"))
}

// text is the message as it is kept: why, subject and headers as lines, an empty line, the payload.
func (m *rawMessage) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Error: %q\nStream: %s\nSubject: %q\n", m.err, m.stream, m.subject)
	names := make([]string, 0, len(m.header))
	for name := range m.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range m.header[name] {
			fmt.Fprintf(&b, "%s: %q\n", name, v)
		}
	}
	b.WriteByte('\n')
	b.Write(m.payload)
	return b.Bytes()
}

func writeFile(name string, data []byte, sync bool) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}

// dirSize is the sum of a directory's files; 0 where there is none.
func dirSize(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var n int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}
