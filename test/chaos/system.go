package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"logforward/internal/control"
	"logforward/test/proc"
)

// topology is what runs.
type topology struct {
	servers   int // 1: logforward's own broker; 3: a NATS cluster with three copies of all
	receivers int
	nodes     int
	logs      int    // of each node
	many      bool   // logs come from a glob, and are written once in a while
	globs     bool   // there are globs besides, of files and of directories
	routed    bool   // nodes and centre are in network namespaces of their own, with a router between them
	quota     string // the kind of process that has one: on a node's state, or a receiver's output
	linkable  bool   // logs may lie in directories beside the usual one
	still     bool   // writers don't rotate
	shared    bool   // receivers write to one directory
	volumes   []string
	apart     bool     // what receivers receive lies on a file system of its own
	clock     bool     // each process has a clock of its own, that can be stepped
	namespace bool     // nodes run in a user namespace, with inotify limits of their own
	choria    bool     // the broker is Choria's, and everybody has a token of its own
	node      []string // settings beside the usual ones
	receive   []string
	setup     []string
}

// single is a broker, a receiver and two nodes.
var single = topology{servers: 1, receivers: 1, nodes: 2, logs: 3}

// team is a cluster of three servers, three receivers and three nodes.
var team = topology{servers: 3, receivers: 3, nodes: 3, logs: 3}

// system is a topology that runs on one directory, and the record of what happens to it.
type system struct {
	topology
	dir        string
	binary     string
	host       string // loopback address of its own
	begun      time.Time
	volumes    map[string]*volume
	clocks     map[string]*os.File
	links      map[string][]*proc.Link // of each receiver and node, to each server
	streams    []*stream
	elsewhere  []string // directories that have what was moved out of an output
	binds      []string // mounted
	quotas     map[string]*quota
	network    *network          // nil: loopback, through proxies
	control    []*control.Client // of each node
	partitions int               // at the beginning
	seals      bool              // nodes seal what they send
	report     func(line string)

	choria *choria // nil: the broker isn't Choria's

	mu         sync.Mutex
	processes  map[string]*proc.Process
	locks      map[string]*sync.Mutex
	timeline   []string
	injections []injection
	limits     map[string]string // of inotify, that a node begins without
	errs       []error           // of the runner and the machine
	bad        []error           // ends that weren't in order
}

var hosts atomic.Uint32

// newSystem lays everything down, and starts nothing.
func newSystem(t topology, dir, binary string, seed uint64, report func(string)) (*system, error) {
	// An address that nobody else listens at, and that no connection comes from: a server that is down leaves its port free.
	host := fmt.Sprintf("127.%d.%d.%d", 64+hosts.Add(1)%128, os.Getpid()>>8&0xff, 2+os.Getpid()&0xff%250)
	s := &system{topology: t, dir: dir, binary: binary, host: host, begun: time.Now(), report: report,
		volumes: map[string]*volume{}, clocks: map[string]*os.File{}, links: map[string][]*proc.Link{}, quotas: map[string]*quota{},
		processes: map[string]*proc.Process{}, locks: map[string]*sync.Mutex{}, limits: map[string]string{}}
	if t.choria {
		var err error
		if s.choria, err = newChoria(s); err != nil {
			return s, err
		}
	}
	if t.routed {
		var err error
		if s.network, err = newNetwork(); err != nil {
			return s, err
		}
	}
	for _, name := range append(append(s.serverNames(), s.receiverNames()...), s.nodeNames()...) {
		s.locks[name] = new(sync.Mutex)
		dir := s.path(name)
		kind := strings.TrimRight(name, "0123456789")
		if slices.Contains(t.volumes, kind) {
			v, err := newVolume(dir, 192<<20)
			if err != nil {
				return s, err
			}
			s.volumes[name] = v
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return s, err
		}
		if t.apart && kind == "receiver" {
			if err := s.separate(name); err != nil {
				return s, err
			}
		}
		if t.quota == kind {
			q, err := newQuota(s.kept(kind, name))
			if err != nil {
				return s, err
			}
			s.quotas[name] = q
		}
		if t.clock {
			f, err := os.Create(s.path(name + ".clock"))
			if err != nil {
				return s, err
			}
			if _, err := f.Write(make([]byte, 16)); err != nil {
				return s, err
			}
			s.clocks[name] = f
		}
	}
	for _, lay := range []func() error{s.layServers, s.layReceivers, func() error { return s.layNodes(seed) }} {
		if err := lay(); err != nil {
			return s, err
		}
	}
	return s, nil
}

func names(kind string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s%d", kind, i+1))
	}
	return list
}

func (s *system) serverNames() []string   { return names("broker", s.servers) }
func (s *system) receiverNames() []string { return names("receiver", s.receivers) }
func (s *system) nodeNames() []string     { return names("node", s.nodes) }

func (s *system) path(name string) string { return filepath.Join(s.dir, name) }

// launch starts one of the processes by its name.
func (s *system) launch(name string) error {
	var args, env []string
	attr := new(syscall.SysProcAttr)
	kind := strings.TrimRight(name, "0123456789")
	switch {
	case kind == "broker" && s.servers > 1:
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args, env = []string{self}, []string{serverVariable + "=" + s.path(name+".conf")}
	case kind == "broker" && s.choria != nil:
		args = s.choria.command()
	case kind == "broker":
		args = []string{s.binary, "broker", "--listen", s.address(0), "--store", s.path(name + "/store"), "--max-store", "1GiB"}
	case kind == "receiver":
		args = []string{s.binary, "receive", "--config", s.path(name + ".cfg")}
	case kind == "node":
		args = []string{s.binary, "forward", "--config", s.path(name + ".cfg")}
		if s.namespace {
			one := []syscall.SysProcIDMap{{Size: 1}}
			s.mu.Lock()
			if what := s.limits[name]; what != "" {
				args = limited(what, args)
			}
			s.mu.Unlock()
			attr.Cloneflags, attr.UidMappings, attr.GidMappings = syscall.CLONE_NEWUSER, one, one
		}
	}
	if s.clock {
		env = append(env, clockVariable+"="+s.path(name+".clock"))
	}
	if s.network != nil {
		keeper := s.network.centre
		if kind == "node" {
			keeper = s.network.nodes
		}
		args = enterNetwork(keeper, args...)
	}
	p, err := proc.Launch(name, s.path(name+".out"), env, attr, args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.processes[name] = p
	s.mu.Unlock()
	return nil
}

// limit lets a node begin without something of inotify from its next start on; empty: with all of it.
func (s *system) limit(name, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits[name] = what
}

// start does so, and notes it.
func (s *system) start(name string) {
	s.event("start %s", name)
	s.failed(s.launch(name))
}

func (s *system) process(name string) *proc.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes[name]
}

// kill sends a signal and waits for the end. Its effect is that the process ended by it.
func (s *system) kill(name string, sig syscall.Signal) effect {
	s.mu.Lock()
	p := s.processes[name]
	delete(s.processes, name)
	s.mu.Unlock()
	if p == nil {
		return nothing
	}
	s.event("%s %s", signalName(sig), name)
	if err := p.End(sig); err != nil {
		s.mu.Lock()
		s.bad = append(s.bad, err)
		s.mu.Unlock()
	}
	return seen(ended(p, sig))
}

func signalName(sig syscall.Signal) string {
	switch sig {
	case syscall.SIGKILL:
		return "kill -9"
	case syscall.SIGTERM:
		return "stop"
	}
	return sig.String()
}

func (s *system) signal(name string, sig syscall.Signal) {
	if p := s.process(name); p != nil {
		p.Signal(sig)
	}
}

// event notes something in the timeline.
func (s *system) event(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs %s", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
	s.mu.Lock()
	s.timeline = append(s.timeline, line)
	s.mu.Unlock()
	if s.report != nil {
		s.report(line)
	}
}

// failed notes an error of the machine or the runner: it says nothing of the system.
func (s *system) failed(err error) bool {
	if err == nil {
		return false
	}
	s.event("! %v", err)
	s.mu.Lock()
	s.errs = append(s.errs, err)
	s.mu.Unlock()
	return true
}

// hold keeps other faults from the named processes until the returned function is called.
func (s *system) hold(names ...string) func() {
	names = slices.Clone(names)
	slices.Sort(names)
	for _, n := range names {
		s.locks[n].Lock()
	}
	return func() {
		for _, n := range names {
			s.locks[n].Unlock()
		}
	}
}

// holdWriters keeps all writers of a node from writing.
func (s *system) holdWriters(node string) (mine []*stream, release func()) {
	for _, w := range s.streams {
		if s.nodeNames()[w.node] == node {
			w.mu.Lock()
			mine = append(mine, w)
		}
	}
	return mine, func() {
		for _, w := range mine {
			w.mu.Unlock()
		}
	}
}

// step sets a process's clock: so much beside the machine's.
func (s *system) step(name string, by time.Duration) {
	s.event("clock of %s is %+d s off", name, int64(by.Seconds()))
	_, err := s.clocks[name].WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(by.Seconds()))), 0)
	s.failed(err)
}

// stepped is how far off a process's clock is.
func (s *system) stepped(name string) time.Duration {
	b := make([]byte, 8)
	_, err := s.clocks[name].ReadAt(b, 0)
	s.failed(err)
	return time.Duration(int64(binary.NativeEndian.Uint64(b))) * time.Second
}

// run runs a command. One that gets no answer is ended: a cluster isn't there at once.
func (s *system) run(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	all := append([]string{s.binary}, args...)
	if s.network != nil {
		all = enterNetwork(s.network.centre, all...)
	}
	out, err := exec.CommandContext(ctx, all[0], all[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// wait repeats a check until it succeeds; the error is its last one.
func wait(within time.Duration, check func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", within, err)
		}
		time.Sleep(30 * time.Millisecond) // of looking
	}
}

// up starts everything, and the writers, and waits until each log is followed: a file that is rotated away before anybody
// ever looked at it isn't.
func (s *system) up(partitions int) error {
	s.partitions = partitions
	for _, name := range s.serverNames() {
		if err := s.launch(name); err != nil {
			return err
		}
	}
	if err := s.setUp(); err != nil {
		return err
	}
	for _, name := range append(s.receiverNames(), s.nodeNames()...) {
		if err := s.launch(name); err != nil {
			return err
		}
	}
	for _, w := range s.streams {
		if err := w.begin(); err != nil {
			return err
		}
		w.mu.Lock()
		err := w.append(w.some(2))
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if err := wait(60*time.Second, func() error { _, err := s.arrived(new(fault)); return err }); err != nil {
		return fmt.Errorf("at the beginning: %w", err)
	}
	s.event("everything runs, and all logs are followed")
	return nil
}

// setUp makes streams and buckets.
func (s *system) setUp() error {
	args := append([]string{"setup", "--url", s.urls(), "--partitions", fmt.Sprint(s.partitions), "--replicas", fmt.Sprint(s.servers)}, s.topology.setup...)
	if s.choria != nil {
		args = []string{"setup", "--choria", s.choria.streams, "--partitions", fmt.Sprint(s.partitions)}
	}
	return wait(60*time.Second, func() error { return s.run(args...) })
}

// writing lets all writers write until stop is called, with a pause of less than pace between steps.
func (s *system) writing(seed uint64, pace time.Duration) (stop func()) {
	var tasks sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for i, w := range s.streams {
		if s.many {
			break
		}
		random := rand.New(rand.NewPCG(seed, uint64(7000+i)))
		tasks.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Duration(random.Int64N(int64(pace)))):
				}
				if s.failed(w.step()) {
					return
				}
			}
		})
	}
	if s.many { // one writer for all
		random := rand.New(rand.NewPCG(seed, 6999))
		tasks.Go(func() {
			for ctx.Err() == nil {
				if s.failed(s.streams[random.IntN(len(s.streams))].step()) {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		tasks.Wait()
	}
}

// close ends everything and removes what was mounted.
func (s *system) close() {
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		s.signal(name, syscall.SIGCONT)
		s.kill(name, syscall.SIGKILL)
	}
	for _, w := range s.streams {
		w.close()
	}
	for _, links := range s.links {
		for _, k := range links {
			k.Close()
		}
	}
	for _, f := range s.clocks {
		f.Close()
	}
	for _, v := range s.volumes {
		s.failed(v.unmount())
	}
	for _, q := range s.quotas {
		s.failed(q.close())
	}
	if s.network != nil {
		s.network.close()
	}
	for _, dir := range s.binds {
		_, err := command("umount", dir)
		s.failed(err)
	}
	if s.choria != nil {
		s.failed(s.choria.site.Close())
	}
}

// tails are the last lines of what the processes said.
func (s *system) tails(lines int) string {
	var b strings.Builder
	for _, name := range append(append(s.serverNames(), s.receiverNames()...), s.nodeNames()...) {
		out, err := os.ReadFile(s.path(name + ".out"))
		if err != nil {
			continue
		}
		all := strings.Split(strings.TrimSpace(string(out)), "\n")
		fmt.Fprintf(&b, "--- %s\n%s\n", name, strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	return b.String()
}
