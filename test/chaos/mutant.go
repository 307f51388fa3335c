package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// mutant is one way to break the program: texts, each of which is in its file exactly once, replaced by others.
type mutant struct {
	name  string
	about string
	file  string // below the module's root
	edits []edit
	fault string // that shows it
}

// edit replaces a text of a file; an empty file is the mutant's.
type edit struct{ old, new, file string }

// mutants are what the oracle must be able to see. The first five break the rules that the whole design rests on.
func mutants() []*mutant {
	const receive, forward, tail = "internal/receive/", "internal/forward/", "internal/tail/"
	return []*mutant{
		{name: "acknowledge-before-fsync", about: "the receiver confirms and acknowledges what it has only written", file: receive + "commit.go", fault: "power-receiver",
			edits: []edit{{"	if err := r.syncBatch(b); err != nil {", "	if err := error(nil); err != nil {", ""}}},
		{name: "forget-cut-back", about: "what wasn't committed stays in the file", file: receive + "begin.go", fault: "team-kill-receiver",
			edits: []edit{{"	if st.Size() > f.size {\n		if m := l.local.Prepared; m", "	if st.Size() < f.size {\n		if m := l.local.Prepared; m", ""}}},
		{name: "skip-compare-and-set", about: "records and leases are written whatever is there", file: "internal/broker/records.go", fault: "team-mute-receiver",
			edits: []edit{{"header := nats.Header{expectRevision: {", "header := nats.Header{\"Lf-Expected\": {", ""}}},
		{name: "advance-on-publish", about: "the node counts as confirmed what it has sent", file: forward + "send.go", fault: "kill-broker",
			edits: []edit{{"	f.lastSent = now\n	f.meter.add", "	f.lastSent = now\n	defer func() {\n		if d, ok := f.flight.border(end); ok {\n			f.confirm(end, d)\n		}\n	}()\n	f.meter.add", ""}}},
		{name: "drop-reconnect-rule", about: "a node doesn't go back to what wasn't acknowledged when its connection breaks", file: forward + "goback.go", fault: "cut-last",
			edits: []edit{
				{"	f.goBack(f.stored)\n	f.notBefore", "	f.notBefore", ""},
				{"	if f.next > f.stored {\n		f.goBack(f.stored)\n	}\n", "", forward + "sync.go"},
			}},
		{name: "advance-on-broker-ack", about: "the node counts as confirmed what the broker has acknowledged", file: forward + "goback.go", fault: "wipe-broker",
			edits: []edit{{"	if f.link.destination.Commit == Stored {\n		if d, ok", "	if true {\n		if d, ok", ""}}},
		{name: "skip-node-digest", about: "the node believes a receiver that is further without comparing digests", file: forward + "sync.go", fault: "snapshot-node",
			edits: []edit{{"	case ok && d == p.Digest, f.flight.wasBorder(p.Position, p.Digest):", "	case ok, f.flight.wasBorder(p.Position, p.Digest):", ""}}},
		{name: "skip-receiver-digest", about: "the receiver takes what has the right position without comparing digests", file: receive + "cursor.go", fault: "snapshot-node",
			edits: []edit{
				{"		if ch.Digest != c.Digest {\n			return fork, 0\n		}\n		return take, 0", "		return take, 0", ""},
				{"		if ch.Gap == nil && ch.Digest.Update(ch.Data[:skip]) != c.Digest {", "		if false {", ""},
				{"	case ch.End() == c.Position && ch.DigestAfter() != c.Digest:\n		if ch.Gap != nil {", "	case ch.End() == c.Position && ch.DigestAfter() != c.Digest && ch.Gap != nil:\n		if ch.Gap != nil {", ""},
			}},
		{name: "forget-hole", about: "a chunk whose predecessor is missing is taken", file: receive + "cursor.go", fault: "rollback-broker",
			edits: []edit{{"	case ch.Position > c.Position:\n		return hole, 0", "	case ch.Position > c.Position:\n		return take, 0", ""}}},
		{name: "take-duplicates", about: "a chunk that is there already is taken once more", file: receive + "cursor.go", fault: "kill-broker",
			edits: []edit{{"	return duplicate, 0\n", "	return take, 0\n", ""}}},
		{name: "ignore-resend", about: "a node doesn't go back when a receiver asks it to", file: forward + "goback.go", fault: "wipe-broker",
			edits: []edit{{"	if !f.begun || f.tail == nil || r.Epoch != f.rec.Epoch || r.Round != f.rec.Round {", "	if true {", ""}}},
		{name: "rotate-without-ledger", about: "the ledger isn't told that a central file has its final name", file: receive + "commit.go", fault: "restart-receiver",
			edits: []edit{{"			l.note(it.closing.entry())\n", "			_ = it.closing.entry()\n", ""}}},
		{name: "gap-without-ledger", about: "a gap takes positions, and the ledger says nothing of it", file: receive + "log.go", fault: "remove-beyond",
			edits: []edit{{"		l.note(Entry{Time: now, Event: EventGap,", "		_ = (Entry{Time: now, Event: EventGap,", ""}}},
		{name: "gap-of-wrong-size", about: "a gap says that half as much is lost", file: forward + "send.go", fault: "remove-beyond",
			edits: []edit{{"Bytes: max(l.Bytes, -1), Exact: l.Exact", "Bytes: max(l.Bytes/2, -1), Exact: l.Exact", ""}}},
		{name: "gap-of-wrong-cause", about: "a gap doesn't say why", file: forward + "send.go", fault: "truncate",
			edits: []edit{{"	if gap.Cause == \"\" {", "	if gap.Cause != \"\" {", ""}}},
		{name: "believe-prepared", about: "what was prepared counts as committed, though the record doesn't cover it", file: receive + "reconcile.go", fault: "team-mute-receiver",
			edits: []edit{{"		if l.rec.covers(p.r.config.Name, m) {\n			lo.commit", "		if m != nil {\n			lo.commit", ""}}},
		{name: "forget-witness", about: "a node's word that it was told to forget more isn't taken", file: receive + "log.go", fault: "wipe-broker-receiver",
			edits: []edit{{"	if h.Epoch == 0 || h.Confirmed == 0 || l.hold", "	if true || l.hold", ""}}},
		{name: "forget-copy", about: "after a copytruncate the rest isn't read from the copy", file: tail + "truncate.go", fault: "logrotate-copytruncate",
			edits: []edit{{"	twin, err := l.findCopy(g)\n", "	twin, err := l.findCopy(g)\n	if twin != nil {\n		twin.close()\n		twin = nil\n	}\n", ""}}},
	}
}

// sources are the mutated files, by their paths below the root. The error tells of a text that isn't there, or more than
// once: the mutant must follow the code.
func (m *mutant) sources(root string) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range m.edits {
		file := cmp.Or(e.file, m.file)
		text, ok := texts[file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 || e.old == e.new {
			return nil, fmt.Errorf("mutant %s: %s has this text %d times, not once:\n%s", m.name, file, n, e.old)
		}
		texts[file] = strings.Replace(text, e.old, e.new, 1)
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("mutant %s changes nothing", m.name)
	}
	return texts, nil
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// build makes the program with the mutant in it.
func (m *mutant) build(root, output string) error {
	texts, err := m.sources(root)
	if err != nil {
		return err
	}
	overlay := map[string]string{}
	for file, text := range texts {
		changed := fmt.Sprintf("%s.%d.go", output, len(overlay))
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			return err
		}
		overlay[filepath.Join(root, file)] = changed
	}
	return build(output, overlay)
}

// mutantPatience is how long a mutant's bytes are waited for.
const mutantPatience = 20 * time.Second

// mutate runs each mutant under its fault, with one seed after another, until the oracle has seen something, or tries are used up.
func (c *campaign) mutate(pattern, matrix string, tries int) int {
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c.began = time.Now()
	c.can = newAbilities()
	all := faults()
	tried, missed := 0, 0
	for _, m := range mutants() {
		if ok, err := path.Match(pattern, m.name); err != nil || !ok {
			continue
		}
		f := byName(all, m.fault)
		if why := c.can.lacks(f); why != "" {
			fmt.Fprintf(c.out, "%-26s skipped: %s\n", m.name, why)
			continue
		}
		w := c.caught(m, f, root, tries)
		tried++
		if matrix != "" {
			if err := addMutant(matrix, w); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		if w.Check == "" {
			missed++
			fmt.Fprintf(c.out, "%-26s NOT CAUGHT by %s, seeds %d to %d: %s\n", m.name, m.fault, c.seed, c.seed+uint64(w.Tried)-1, w.Said)
			continue
		}
		fmt.Fprintf(c.out, "%-26s caught by %s, seed %d, after %d tries and %.0f s: %s: %.160s\n", m.name, m.fault, w.Seed, w.Tried, w.Seconds, w.Check, w.Said)
	}
	fmt.Fprintf(c.out, "%d mutants in %s: %d not caught\n", tried, time.Since(c.began).Round(time.Second), missed)
	if missed > 0 {
		return 1
	}
	return 0
}

// addMutant puts what became of a mutant into the published table, in its place.
func addMutant(matrix string, w mutantRow) error {
	p, err := read(matrix)
	if err != nil {
		return err
	}
	known := map[string]mutantRow{w.Mutant: w}
	for _, old := range p.Mutants {
		if old.Mutant != w.Mutant {
			known[old.Mutant] = old
		}
	}
	p.Mutants = nil
	for _, m := range mutants() {
		if w, ok := known[m.name]; ok {
			p.Mutants = append(p.Mutants, w)
		}
	}
	return p.write(matrix)
}

// caught tries seeds on one mutant, several at a time.
func (c *campaign) caught(m *mutant, f *fault, root string, tries int) mutantRow {
	began := time.Now()
	w := mutantRow{Mutant: m.name, File: m.file, About: m.about, Fault: m.fault}
	binary := filepath.Join(c.dir, m.name)
	if err := m.build(root, binary); err != nil {
		w.Said = err.Error()
		return w
	}
	defer os.Remove(binary)
	o := c.options
	o.binary, o.patience = binary, mutantPatience
	for w.Tried < tries {
		n := min(c.parallel, tries-w.Tried)
		results := make([]*result, n)
		done := make(chan int)
		for i := range n {
			go func() {
				results[i] = play(f, c.seed+uint64(w.Tried+i), o)
				done <- i
			}()
		}
		for range n {
			<-done
		}
		for i, r := range results {
			if c.verbose && !r.ok() {
				fmt.Fprintln(c.out, r.text())
			}
			if r.machine != nil {
				w.Said = "the run couldn't be made: " + r.machine.Error()
				continue
			}
			if r.err != nil {
				w.Check, w.Seed, w.Said = r.check(), r.seed, strings.TrimPrefix(r.err.Error(), r.check()+": ")
				w.Tried += i + 1
				w.Seconds = round(time.Since(began).Seconds())
				return w
			}
		}
		w.Tried += n
	}
	w.Seconds = round(time.Since(began).Seconds())
	return w
}
