package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/receive"
	"logforward/test/proc"
)

// effect tells, when all faults are over and everything has arrived, by what an injection was seen to have done something; an empty text: by nothing. A
// fault that does nothing leaves everything exact, and would look like the best of results.
type effect func() string

// seen is an effect that is known already.
func seen(text string) effect { return func() string { return text } }

// nothing is the effect of an injection that couldn't be made.
var nothing = seen("")

// together is the effect of several: one that wasn't seen hides the others.
func together(list ...effect) effect {
	return func() string {
		var texts []string
		for _, e := range list {
			text := e()
			if text == "" {
				return ""
			}
			if !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	}
}

// numbered is a text with a number in it, and nothing where that is 0.
func numbered[N int | int64](format string, n N) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// injection is one of a run: part of a combination, or a round of its fault.
type injection struct {
	fault  string
	effect effect
}

// effects sum up what was seen of the injections of some runs.
type effects struct {
	Took   int    `json:"took"`             // injections that were seen to do something
	Of     int    `json:"of"`               // injections
	Seen   string `json:"seen,omitempty"`   // by what, for instance
	Unseen string `json:"unseen,omitempty"` // faults of combinations among those that weren't
}

func (e *effects) add(o effects) {
	e.Took, e.Of, e.Seen = e.Took+o.Took, e.Of+o.Of, cmp.Or(e.Seen, o.Seen)
	names := append(strings.Fields(e.Unseen), strings.Fields(o.Unseen)...)
	slices.Sort(names)
	e.Unseen = strings.Join(slices.Compact(names), " ")
}

// none tells of a fault that never did anything: what it shows is worth nothing.
func (e *effects) none() bool { return e.Of > 0 && e.Took == 0 }

// inject does it, and remembers by what that can be seen.
func (s *system) inject(f *fault, r *rand.Rand) {
	e := f.do(s, r)
	s.mu.Lock()
	s.injections = append(s.injections, injection{f.name, e})
	s.mu.Unlock()
}

// took looks whether the injections did something.
func (s *system) took() (sum effects) {
	for _, i := range s.injections {
		text := i.effect()
		one := effects{Of: 1, Seen: text}
		if text != "" {
			one.Took = 1
			s.event("effect of %s: %s", i.fault, text)
		} else {
			one.Unseen = i.fault
			s.event("no effect of %s was seen", i.fault)
		}
		sum.add(one)
	}
	return sum
}

// ended tells how a process ended, if that was by the signal.
func ended(p *proc.Process, sig syscall.Signal) string {
	w, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return ""
	case w.Signaled() && w.Signal() == sig:
		return fmt.Sprintf("the process is gone, by signal %d", sig)
	case sig == syscall.SIGTERM && w.Exited():
		return fmt.Sprintf("the process has ended, with exit code %d", w.ExitStatus())
	}
	return ""
}

// halt stops a process and waits until the kernel says that it is.
func (s *system) halt(name string) effect {
	s.event("SIGSTOP %s", name)
	p := s.process(name)
	if p == nil {
		return nothing
	}
	p.Signal(syscall.SIGSTOP)
	file := fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid)
	for range 200 {
		b, _ := os.ReadFile(file)
		if _, rest, ok := bytes.Cut(b, []byte(") ")); ok && rest[0] == 'T' {
			return seen("the process is in state T")
		}
		time.Sleep(5 * time.Millisecond) // of looking
	}
	return nothing
}

// resume lets it go on.
func (s *system) resume(name string) {
	s.event("SIGCONT %s", name)
	s.signal(name, syscall.SIGCONT)
}

// listen hears what a process says from now on, until the returned function is called: its effect is the first line with one of the texts.
func (s *system) listen(name string, texts ...string) (stop func() effect) {
	size := func() int64 {
		st, err := os.Stat(s.path(name + ".out"))
		if err != nil {
			return 0
		}
		return st.Size()
	}
	from := size()
	return func() effect {
		to := size()
		return func() string {
			b, err := os.ReadFile(s.path(name + ".out"))
			if err != nil || int64(len(b)) < to {
				return ""
			}
			for _, t := range texts {
				if n := bytes.Count(b[from:to], []byte(t)); n > 0 {
					return fmt.Sprintf("%s said %q", strings.TrimRight(name, "0123456789"), t)
				}
			}
			return ""
		}
	}
}

// listenOn hears what a process says from now on, to the end.
func (s *system) listenOn(name string, texts ...string) effect {
	stop := s.listen(name, texts...)
	return func() string { return stop()() }
}

// watch tells what the links of processes do from now on.
func (s *system) watch(names ...string) func() proc.Effects {
	sum := func() (e proc.Effects) {
		for _, n := range names {
			for _, k := range s.links[n] {
				e = e.Plus(k.Effects())
			}
		}
		return e
	}
	before := sum()
	return func() proc.Effects { return sum().Since(before) }
}

// lags waits a moment for so many bytes of lag of a node's logs.
func (s *system) lags(node string, least int64) effect {
	c := s.control[slices.Index(s.nodeNames(), node)]
	var most int64
	for range 60 {
		var sum int64
		st, err := c.Status(context.Background(), control.StatusRequest{})
		if err == nil {
			for _, l := range st.Logs {
				sum += l.LagBytes
			}
		}
		if most = max(most, sum); most >= least {
			return seen(fmt.Sprintf("the node has a lag of more than %s", size(least)))
		}
		time.Sleep(10 * time.Millisecond) // of looking
	}
	return nothing
}

// refused counts the writes that the writers of a node were refused for one of the reasons.
func (s *system) refused(node string, reasons ...syscall.Errno) (n int) {
	for _, w := range s.streams {
		if s.nodeNames()[w.node] == node {
			n += w.refusals(reasons...)
		}
	}
	return n
}

// tree has what lies below a directory: sizes of files, and their digests if they are asked for.
func tree(dir string, content bool) map[string]string {
	all := map[string]string{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if !content {
			if st, err := d.Info(); err == nil {
				all[path] = fmt.Sprint(st.Size())
			}
			return nil
		}
		if b, err := os.ReadFile(path); err == nil {
			all[path] = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		return nil
	})
	return all
}

// differing counts what isn't the same in both.
func differing(a, b map[string]string) (n int) {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if a[k] != b[k] {
			n++
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			n++
		}
	}
	return n
}

// administer does something with the broker as its administrator, on a connection that no fault touches.
func (s *system) administer(do func(ctx context.Context, js jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	nc, err := nats.Connect(strings.ReplaceAll(s.urls(), " ", ""), nats.Timeout(2*time.Second))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return do(ctx, js)
}

// layout is the one in force; empty where it can't be told.
func (s *system) layout() (l broker.Layout) {
	_ = s.administer(func(ctx context.Context, js jetstream.JetStream) error {
		shared, err := broker.OpenShared(ctx, js)
		if err == nil {
			l, err = shared.Layout(ctx)
		}
		return err
	})
	return l
}

// leases are those of all partitions, by their keys.
func (s *system) leases() map[string]receive.Lease {
	all := map[string]receive.Lease{}
	_ = s.administer(func(ctx context.Context, js jetstream.JetStream) error {
		kv, err := js.KeyValue(ctx, broker.Leases)
		if err != nil {
			return err
		}
		keys, err := kv.Keys(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			var l receive.Lease
			if e, err := kv.Get(ctx, k); strings.HasPrefix(k, "partition.") && err == nil && json.Unmarshal(e.Value(), &l) == nil {
				all[k] = l
			}
		}
		return nil
	})
	return all
}

// working picks a receiver that has a partition, if one can be told.
func (s *system) working(r *rand.Rand) string {
	name := pick(r, s.receiverNames())
	var owners []string
	for _, l := range s.leases() {
		if slices.Contains(s.receiverNames(), l.Owner) {
			owners = append(owners, l.Owner)
		}
	}
	if len(owners) == 0 {
		return name
	}
	slices.Sort(owners)
	owners = slices.Compact(owners)
	return owners[r.IntN(len(owners))]
}

// leasesMove is the effect that a partition of the named receivers has another owner, or the same in another term.
func (s *system) leasesMove(names ...string) effect {
	before := s.leases()
	return func() string {
		now := s.leases()
		var texts []string
		for k, l := range before {
			if n, ok := now[k]; ok && slices.Contains(names, l.Owner) && n.Term > l.Term {
				texts = append(texts, fmt.Sprintf("the lease of %s went from %s to %s", strings.Replace(k, ".", " ", 1), l.Owner, cmp.Or(n.Owner, "nobody")))
			}
		}
		slices.Sort(texts)
		return strings.Join(texts, ", ")
	}
}

// ownTime is the effect that a process's own clock shows the step.
func (s *system) ownTime(name string, by time.Duration) effect {
	b := make([]byte, 8)
	for range 200 {
		if _, err := s.clocks[name].ReadAt(b, 8); err != nil {
			return nothing
		}
		// Both have whole seconds, and the process may not have looked for one or two.
		off := time.Duration(int64(binary.NativeEndian.Uint64(b))-time.Now().Unix()) * time.Second
		if off <= by && off > by-3*time.Second {
			return seen("the process's own time.Now has taken the step")
		}
		time.Sleep(10 * time.Millisecond) // of looking
	}
	return nothing
}

var errNoEffect = errors.New("no effect of it was seen in any round: it shows nothing")
