// Command chaos runs the built program under faults and compares every byte: go run ./test/chaos. It makes
// docs/correctness.md.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"logforward/test/proc"
)

// serverVariable makes this program one server of a NATS cluster; its value is the configuration file.
const serverVariable = "CHAOS_SERVER"

// namespaceVariable tells that this process has mounts of its own.
const namespaceVariable = "CHAOS_NAMESPACE"

func main() { os.Exit(enter(chaos)) }

// enter runs the program in a mount namespace of its own, where that may be made: whatever it mounts is gone when it ends, however it ends.
func enter(run func() int) int {
	if config := os.Getenv(serverVariable); config != "" {
		return proc.Serve(config)
	}
	if os.Getuid() != 0 || os.Getenv(namespaceVariable) != "" {
		return run()
	}
	self, err := os.Executable()
	if err != nil {
		return run()
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return run() // no namespaces here
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func chaos() int {
	var (
		seed     = flag.Uint64("seed", 0, "of the first round; 0: one at random. With --fault it repeats a run")
		pattern  = flag.String("fault", "*", "faults to inject, a pattern of names, or several with commas")
		rounds   = flag.Int("rounds", 1, "seeds that each fault is tried with")
		seconds  = flag.Float64("seconds", 0, "that the faults of a run go on for, at least; 0: as many as each fault has by itself")
		parallel = flag.Int("parallel", 3, "runs at the same time")
		matrix   = flag.String("matrix", "", "file to write the matrix to (docs/correctness.md), with the numbers as JSON beside it")
		list     = flag.Bool("list", false, "list the faults")
		verbose  = flag.Bool("verbose", false, "tell the timeline of every run")
		keep     = flag.Bool("keep", false, "leave the directory of a run that failed")
		mutants  = flag.String("mutants", "", "break the program on purpose, in each known way whose name has this pattern (\"*\": all), and see the oracle find it")
		tries    = flag.Int("tries", 12, "seeds that each mutant is tried with, at most")
		choria   = flag.String("choria", "bin/choria", "Choria, the program, for faults of its broker (make choria)")
		render   = flag.Bool("render", false, "write the matrix once more from its numbers, and run nothing")
		program  = flag.String("program", "", "the program to test; empty: it is built")
	)
	flag.Parse()
	choriaProgram(*choria)
	if *render {
		p, err := read(*matrix)
		if err == nil {
			err = p.write(*matrix)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	all := faults()
	if *list {
		for _, f := range all {
			fmt.Printf("%-28s %s\n", f.name, f.about)
		}
		return 0
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	var chosen []*fault
	for _, f := range all {
		for p := range strings.SplitSeq(*pattern, ",") {
			if ok, err := path.Match(p, f.name); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 2
			} else if ok {
				chosen = append(chosen, f)
				break
			}
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "no fault matches %s; --list shows them all\n", *pattern)
		return 2
	}
	dir, err := os.MkdirTemp("", "chaos-build-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	c := &campaign{dir: dir, seed: *seed, rounds: *rounds, parallel: *parallel, program: *program, out: os.Stdout, verbose: *verbose,
		options: options{seconds: *seconds, keep: *keep}}
	if *mutants != "" {
		return c.mutate(*mutants, *matrix, *tries)
	}
	fmt.Printf("seed %d, %d faults, %d rounds, %d at a time\n", *seed, len(chosen), *rounds, *parallel)
	results, skipped, err := c.run(chosen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	failed := 0
	for _, r := range results {
		if !r.ok() {
			failed++
		}
	}
	idle := withoutEffect(results)
	if *matrix != "" {
		if err := c.publish(*matrix, results, skipped); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Printf("%d runs in %s: %d failed, %d faults couldn't be injected here\n", len(results), time.Since(c.began).Round(time.Second), failed, len(skipped))
	for _, r := range results {
		if !r.ok() {
			fmt.Printf("again: %s\n", r.reproduce())
		}
	}
	for _, name := range idle {
		fmt.Printf("%s: %v\n", name, errNoEffect)
	}
	if failed > 0 || len(idle) > 0 {
		return 1
	}
	return 0
}

// withoutEffect are the faults that never did anything, in all runs together. In one run that may be chance.
func withoutEffect(results []*result) (names []string) {
	all := map[string]effects{}
	for _, r := range results {
		e := all[r.fault.name]
		e.add(r.effects)
		all[r.fault.name] = e
	}
	for name, e := range all {
		if e.none() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// campaign is all runs of one call.
type campaign struct {
	dir      string
	seed     uint64
	rounds   int
	parallel int
	program  string
	verbose  bool
	out      *os.File
	options  options
	began    time.Time

	mu      sync.Mutex
	stepped func() (string, error)
	can     *abilities
}

// skip is a fault that can't be injected on this machine.
type skip struct {
	fault *fault
	why   string
}

// run plays all faults with all seeds.
func (c *campaign) run(chosen []*fault) (results []*result, skipped []skip, err error) {
	c.began = time.Now()
	binary, err := filepath.Abs(c.program)
	if err != nil {
		return nil, nil, err
	}
	if c.program == "" {
		binary = filepath.Join(c.dir, "logforward")
		if err := build(binary, nil); err != nil {
			return nil, nil, err
		}
	}
	c.stepped = sync.OnceValues(func() (string, error) {
		out := filepath.Join(c.dir, "logforward-clock")
		return out, buildStepped(out)
	})
	c.can = newAbilities()
	can := c.can
	type task struct {
		f    *fault
		seed uint64
	}
	var tasks []task
	var clocked []task
	for round := range c.rounds {
		for _, f := range chosen {
			why := can.lacks(f)
			switch {
			case why != "" && round == 0:
				skipped = append(skipped, skip{f, why})
				fmt.Fprintf(c.out, "%-28s skipped: %s\n", f.name, why)
			case why != "":
			case f.topology.clock: // its program takes a while to be built
				clocked = append(clocked, task{f, c.seed + uint64(round)})
			default:
				tasks = append(tasks, task{f, c.seed + uint64(round)})
			}
		}
	}
	if len(clocked) > 0 {
		go c.stepped()
	}
	tasks = append(tasks, clocked...)
	next := make(chan task)
	var workers sync.WaitGroup
	for range c.parallel {
		workers.Go(func() {
			for t := range next {
				r := c.one(t.f, t.seed, binary)
				c.mu.Lock()
				results = append(results, r)
				c.say(r)
				c.mu.Unlock()
			}
		})
	}
	for _, t := range tasks {
		next <- t
	}
	close(next)
	workers.Wait()
	return results, skipped, nil
}

// runMost is how long one run may take: behind that the runner itself hangs, and shows where.
const runMost = 5 * time.Minute

// one plays one fault with one seed.
func (c *campaign) one(f *fault, seed uint64, binary string) *result {
	o := c.options
	o.binary = binary
	if f.topology.clock {
		b, err := c.stepped()
		if err != nil {
			return &result{fault: f, seed: seed, machine: err}
		}
		o.binary = b
	}
	if c.verbose {
		o.report = func(line string) { fmt.Fprintf(c.out, "%s/%d %s\n", f.name, seed, line) }
	}
	hangs := time.AfterFunc(runMost, func() { panic(fmt.Sprintf("%s, seed %d, isn't over after %s", f.name, seed, runMost)) })
	defer hangs.Stop()
	return play(f, seed, o)
}

func (c *campaign) say(r *result) {
	if !r.ok() {
		fmt.Fprintf(c.out, "%-28s FAILED\n%s\n", r.fault.name, r.text())
		return
	}
	extra := ""
	if r.tally.Gaps > 0 {
		extra += fmt.Sprintf(", %d gaps of %d bytes", r.tally.Gaps, r.tally.Lost)
	}
	if r.tally.Unseen > 0 {
		extra += fmt.Sprintf(", %d bytes that nobody can have seen", r.tally.Unseen)
	}
	if r.tally.Removed > 0 {
		extra += fmt.Sprintf(", %d bytes removed, and named", r.tally.Removed)
	}
	if r.tally.Sealed > 0 {
		extra += fmt.Sprintf(", %d bytes sealed", r.tally.Sealed)
	}
	fmt.Fprintf(c.out, "%-28s seed %d: %8d bytes exact, back to no lag after %5.2f s, took effect %d of %d%s (%.0f s)\n", r.fault.name, r.seed, r.tally.Bytes, r.recovery.Seconds(),
		r.effects.Took, r.effects.Of, extra, r.took.Seconds())
}

// abilities are what this machine lets a test do.
type abilities struct {
	volumes    string // why not; empty: it does
	namespaces string
	logrotate  string
	network    string
	quota      string
}

func newAbilities() *abilities {
	a := &abilities{volumes: volumes(), logrotate: logrotateMissing(), network: networkMissing(), quota: quotaMissing()}
	if _, err := command("unshare", "--user", "--map-root-user", "sh", "-c", "echo 100 > /proc/sys/user/max_inotify_watches"); err != nil {
		a.namespaces = "no user namespace with limits of its own: " + err.Error()
	}
	return a
}

// lacks tells why a fault can't be injected; empty: it can.
func (a *abilities) lacks(f *fault) string {
	switch {
	case (len(f.topology.volumes) > 0 || f.topology.apart) && a.volumes != "":
		return a.volumes
	case f.topology.routed && a.network != "":
		return a.network
	case f.topology.quota != "" && a.quota != "":
		return a.quota
	case f.topology.namespace && a.namespaces != "":
		return a.namespaces
	case f.topology.choria && choriaPath == "":
		return "there is no Choria: make choria builds it"
	case strings.HasPrefix(f.name, "logrotate-") && a.logrotate != "":
		return a.logrotate
	}
	return ""
}
