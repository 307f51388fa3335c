package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// published is the file of numbers that the matrix is made from. Two commands write it, each its part.
type published struct {
	Made    string      `json:"made"` // date
	Machine string      `json:"machine"`
	Means   []string    `json:"means"`
	Seconds float64     `json:"seconds"` // of all runs
	Faults  []row       `json:"faults"`
	Mutants []mutantRow `json:"mutants,omitempty"`
}

// row is one fault with all its seeds.
type row struct {
	Fault   string   `json:"fault"`
	Group   string   `json:"group"`
	About   string   `json:"about"`
	Seeds   []uint64 `json:"seeds"`
	Once    string   `json:"once"`  // exact, or what isn't
	Order   string   `json:"order"` // exact, or what isn't
	Gaps    string   `json:"gaps"`  // none, or how they are accounted
	Lag     string   `json:"lag"`   // zero, or what isn't
	Why     string   `json:"why,omitempty"`
	Tally   tally    `json:"tally"`
	Effects effects  `json:"effects,omitzero"`
	Failed  []string `json:"failed,omitempty"`
	Skipped string   `json:"skipped,omitempty"`
	// Recovery is how long it took, in seconds, from the end of the fault until no node had any lag and all bytes had been compared.
	Recovery span2 `json:"recovery"`
}

type span2 struct {
	Median float64 `json:"median"`
	Most   float64 `json:"most"`
}

// mutantRow is one way in which the program was broken.
type mutantRow struct {
	Mutant  string  `json:"mutant"`
	File    string  `json:"file"`
	About   string  `json:"about"`
	Fault   string  `json:"fault"`
	Check   string  `json:"check"` // that caught it; empty: none did
	Said    string  `json:"said"`
	Seed    uint64  `json:"seed"`
	Tried   int     `json:"tried"` // seeds
	Seconds float64 `json:"seconds"`
}

// rows sums up results by fault.
func rows(results []*result, skipped []skip) (all []row) {
	byFault := map[string][]*result{}
	for _, r := range results {
		byFault[r.fault.name] = append(byFault[r.fault.name], r)
	}
	for _, list := range byFault {
		all = append(all, newRow(list))
	}
	for _, s := range skipped {
		all = append(all, row{Fault: s.fault.name, Group: s.fault.group, About: s.fault.about, Skipped: s.why})
	}
	return all
}

func newRow(list []*result) row {
	f := list[0].fault
	slices.SortFunc(list, func(a, b *result) int { return cmp.Compare(a.seed, b.seed) })
	w := row{Fault: f.name, Group: f.group, About: f.about, Once: "exact", Order: "exact", Lag: "zero", Gaps: "none", Why: f.why}
	var took []float64
	broken := map[string]string{}
	for _, r := range list {
		w.Seeds = append(w.Seeds, r.seed)
		if !r.ok() {
			w.Failed = append(w.Failed, fmt.Sprintf("seed %d: %v", r.seed, errors.Join(r.err, r.machine)))
			broken[r.check()] = fmt.Sprintf("**broken** (seed %d)", r.seed)
			continue
		}
		w.Tally.add(&r.tally)
		w.Effects.add(r.effects)
		took = append(took, r.recovery.Seconds())
	}
	if w.Effects.none() {
		w.Failed = append(w.Failed, errNoEffect.Error())
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		w.Recovery = span2{round(took[n/2]), round(took[n-1])}
	}
	if w.Tally.Gaps > 0 {
		w.Gaps = "accounted"
	}
	if w.Tally.Unseen > 0 {
		w.Gaps = strings.TrimPrefix(w.Gaps+", ", "none, ") + "not promised"
	}
	if w.Tally.Removed > 0 {
		w.Gaps = strings.TrimPrefix(w.Gaps+", ", "none, ") + "removed, and named"
	}
	if f.doubles {
		w.Once = "not promised"
		if w.Tally.Doubled == 0 {
			w.Once += "; it was exact"
		}
	}
	for check, text := range broken {
		switch check {
		case checkOnce:
			w.Once = text
		case checkOrder:
			w.Order = text
		case checkGap:
			w.Gaps = text
		default:
			w.Lag = text
		}
	}
	return w
}

// numbers tell in words what of the bytes wasn't exact; nil: nothing.
func (t *tally) numbers() (list []string) {
	if t.Gaps > 0 {
		text := fmt.Sprintf("%d gaps for %d bytes", t.Gaps, t.Lost)
		if t.Unsized > 0 {
			text += fmt.Sprintf(", the size of %d of them as far as known", t.Unsized)
		}
		list = append(list, text+" ("+strings.Join(sortedKeys(t.Causes), "; ")+")")
	}
	if t.Unseen > 0 {
		list = append(list, fmt.Sprintf("%d bytes that nobody can have seen", t.Unseen))
	}
	if t.Removed > 0 {
		list = append(list, fmt.Sprintf("%d bytes that were removed at the centre, all named as damaged", t.Removed))
	}
	if t.Doubled > 0 {
		list = append(list, fmt.Sprintf("%d bytes twice", t.Doubled))
	}
	return list
}

// column tells how often a fault took effect.
func (e *effects) column() string {
	switch {
	case e.Of == 0:
		return "not asked"
	case e.none():
		return fmt.Sprintf("**none** of %d", e.Of)
	}
	return fmt.Sprintf("%d of %d", e.Took, e.Of)
}

func sortedKeys(m map[string]int) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func round(f float64) float64 { return float64(int(f*100+0.5)) / 100 }

// machine names where it ran, as far as that matters.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	var m unix.Sysinfo_t
	_ = unix.Sysinfo(&m)
	return fmt.Sprintf("%d cores, %d GiB, Linux %s, %s", runtime.NumCPU(), m.Totalram*uint64(m.Unit)>>30, unix.ByteSliceToString(u.Release[:]), runtime.Version())
}

// means tell by what the faults were injected.
func means(can *abilities) []string {
	word := func(why, does string) string {
		if why != "" {
			return does + ": not here: " + why
		}
		return does
	}
	return []string{
		word(can.volumes, "Power failure: files lie on an ext4 file system in a loop device, which is stopped by ext4's shutdown ioctl without writing out anything that is in memory, and mounted again"),
		word(can.volumes, "Full disk: all free blocks of such a file system are allocated. Read-only: the kernel is told of an error in it, and makes it read-only with all its files open"),
		word(can.quota, "Quota: of a btrfs in a loop device; ext4 and XFS have none in this kernel"),
		"Network: every connection goes through a proxy that cuts, mutes, delays and slows it",
		word(can.network, "Half-open connections and lost big packets: nodes and centre are in network namespaces of their own, with a router in a third that drops by routing rules"),
		"Clock: the program is built with a time.Now that adds what a file says, for Go reads the clock without a system call; the monotonic clock is left alone",
		word(can.namespaces, "inotify: nodes run in a user namespace with limits of its own, which are set to 0. Descriptors: prlimit on the running process"),
		word(can.logrotate, "logrotate: the real one, by force, while the logs are written"),
		"A team is three NATS servers with three copies of everything, three receivers and three nodes",
	}
}

func read(file string) (*published, error) {
	p := new(published)
	b, err := os.ReadFile(numbers(file))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	return p, json.Unmarshal(b, p)
}

// numbers is the file of numbers that belongs to a matrix.
func numbers(file string) string { return strings.TrimSuffix(file, filepath.Ext(file)) + ".json" }

// publish writes what the runs showed.
func (c *campaign) publish(file string, results []*result, skipped []skip) error {
	p, err := read(file)
	if err != nil {
		return err
	}
	p.Made, p.Machine, p.Means = time.Now().UTC().Format(time.DateOnly), machine(), means(c.can)
	p.replace(rows(results, skipped), time.Since(c.began).Seconds())
	return p.write(file)
}

// replace takes over new rows. Those of faults that were not run stay, as long as there are such faults.
func (p *published) replace(fresh []row, seconds float64) {
	old, before := p.Faults, p.Seconds
	p.Faults, p.Seconds = fresh, round(seconds)
	for _, r := range old {
		if place(r.Fault) < 0 || slices.ContainsFunc(fresh, func(n row) bool { return n.Fault == r.Fault }) {
			continue
		}
		p.Faults, p.Seconds = append(p.Faults, r), round(before+seconds)
	}
	slices.SortFunc(p.Faults, func(a, b row) int { return cmp.Compare(place(a.Fault), place(b.Fault)) })
}

// place is where a fault stands in the matrix; -1: there is no such fault.
func place(name string) int {
	return slices.IndexFunc(faults(), func(f *fault) bool { return f.name == name })
}

func (p *published) write(file string) error {
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(numbers(file), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(p.markdown()), 0o644)
}

func (p *published) markdown() string {
	var b strings.Builder
	runs, seeds, bytes, sealed := 0, map[uint64]bool{}, int64(0), int64(0)
	for _, w := range p.Faults {
		runs += len(w.Seeds)
		for _, s := range w.Seeds {
			seeds[s] = true
		}
		bytes += w.Tally.Bytes
		sealed += w.Tally.Sealed
	}
	fmt.Fprintf(&b, `# What was shown, fault by fault

<!-- Made by: make chaos, and make mutants. Changes belong into test/chaos. -->

Each line is a run of the built program, forwarders, brokers and receivers as processes of their own, while writers write and rotate their logs and
the fault happens at moments that a seed gives. Then an oracle compares: every byte that was on a node is at the centre once, in order, or is
in the ledger as a gap with its true cause and size; and the lag of every node goes back to zero. What a line says beside "exact" is all that
isn't, and further below are the numbers and the reasons; [guarantees](guarantees.md) has the promises.

A fault that does nothing would be exact, too. So each time that one is injected the run looks for what it does, in the kernel, in what the process says, in the files, at the proxy, and
"took effect" counts how often that was seen; one that never took effect fails. By what it was seen is [below](#by-what-each-fault-was-seen).

In about half of the runs nodes seal what they send: then `+"`logforward verify`"+` must find the seals unbroken, and no byte that isn't its seal's. Closed files alone are looked at.

%d runs with %d seeds, %s compared byte by byte, %s of it under seals, in %.0f s; %s; %s. A run is done again by

    go run ./test/chaos --fault NAME --seed N

"Back" is how long it took, from the end of the fault, until no node had any lag and every byte was compared: the median and the most, in seconds.

| fault | took effect | once | in order | gaps | lag | back | seeds | bytes |
|---|---|---|---|---|---|---|---|---|
`, runs, len(seeds), size(bytes), size(sealed), p.Seconds, p.Machine, p.Made)
	group := ""
	for _, w := range p.Faults {
		if w.Group != group {
			group = w.Group
			fmt.Fprintf(&b, "| **%s** | | | | | | | | |\n", group)
		}
		if w.Skipped != "" {
			fmt.Fprintf(&b, "| `%s`: %s | not tried here: %s | | | | | | | |\n", w.Fault, w.About, oneLine(w.Skipped))
			continue
		}
		fmt.Fprintf(&b, "| `%s`: %s | %s | %s | %s | %s | %s | %.2f / %.2f | %d | %s |\n", w.Fault, w.About, w.Effects.column(), cell(w.Once), cell(w.Order), cell(w.Gaps), cell(w.Lag), w.Recovery.Median, w.Recovery.Most, len(w.Seeds), size(w.Tally.Bytes))
	}
	b.WriteString("\n## What isn't exact, and why\n\n")
	for _, w := range p.Faults {
		text := strings.Join(w.Tally.numbers(), ", ")
		if w.Why != "" && text != "" {
			text += ": "
		}
		if text += w.Why; text != "" {
			fmt.Fprintf(&b, "* `%s`: %s.\n", w.Fault, text)
		}
	}
	for _, w := range p.Faults {
		for _, f := range w.Failed {
			fmt.Fprintf(&b, "* **`%s` failed**, %s\n", w.Fault, oneLine(f))
		}
	}
	b.WriteString("\n## By what each fault was seen\n\nFor instance, each in one of its runs:\n\n")
	for _, w := range p.Faults {
		if w.Effects.Took > 0 {
			fmt.Fprintf(&b, "* `%s`: %s", w.Fault, oneLine(w.Effects.Seen))
			if w.Effects.Unseen != "" && w.Effects.Of > w.Effects.Took && w.Effects.Unseen != w.Fault {
				fmt.Fprintf(&b, "; some of these weren't seen: %s", w.Effects.Unseen)
			}
			b.WriteString(".\n")
		}
	}
	b.WriteString("\n## By what means\n\n")
	for _, m := range p.Means {
		fmt.Fprintf(&b, "* %s.\n", m)
	}
	if len(p.Mutants) > 0 {
		b.WriteString(`
## Is the oracle able to see anything?

The program was broken on purpose, one line at a time, and run under the same faults. Each of these was caught, by the check that is named, with the
first seed that showed it ("make mutants").

| broken | where | fault | caught by | seed | seeds tried | seconds |
|---|---|---|---|---|---|---|
`)
		var said strings.Builder
		for _, m := range p.Mutants {
			caught := m.Check
			if caught == "" {
				caught = "**not caught**"
			}
			fmt.Fprintf(&b, "| `%s`: %s | %s | `%s` | %s | %d | %d | %.0f |\n", m.Mutant, m.About, m.File, m.Fault, caught, m.Seed, m.Tried, m.Seconds)
			fmt.Fprintf(&said, "* `%s`: %s\n", m.Mutant, oneLine(m.Said))
		}
		b.WriteString("\nWhat the check said:\n\n" + said.String())
	}
	return b.String()
}

// cell is a short text for a table: what stands behind a colon is told below it. Tables that were made before have the numbers in them.
func cell(s string) string {
	s, _, _ = strings.Cut(s, ": ")
	return s
}

// temporary are the paths below a run's directory: which one that was says nothing.
var temporary = regexp.MustCompile(`/\S*/chaos-[0-9]+/`)

// oneLine makes a text fit into a line of the page.
func oneLine(s string) string {
	s = temporary.ReplaceAllString(s, "…/")
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
