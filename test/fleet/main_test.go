package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/test/fleet/site"
)

// patience bounds what is waited for.
const patience = 60 * time.Second

var programs site.Programs

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if programs, err = site.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// fleet is a site with setup done, a receiver, and nodes.
type fleet struct {
	*testing.T
	*site.Site
	ctx      context.Context
	receiver *site.Receiver
	nodes    []*site.Node
	admin    *site.Client
}

// newFleet starts a fleet of so many nodes, which all run; change may adapt the site.
func newFleet(t *testing.T, security site.Security, nodes int, change ...func(*site.Config)) *fleet {
	t.Helper()
	return newFleetOf(t, security, nodes, site.NodeOptions{}, change...)
}

// newFleetOf starts one of nodes that have more than every node has.
func newFleetOf(t *testing.T, security site.Security, nodes int, o site.NodeOptions, change ...func(*site.Config)) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "fleet-") // a test's own directory has a name too long for sockets below it
	if err != nil {
		t.Fatal(err)
	}
	c := site.Config{Dir: dir, Security: security, Choria: programs.Choria, Logforward: programs.Logforward}
	for _, f := range change {
		f(&c)
	}
	s, err := site.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, Site: s, ctx: ctx}
	t.Cleanup(func() { f.end(dir) })
	f.must(s.Setup(ctx, "--partitions", "2"))
	f.receiver, err = s.AddReceiver("r1", nil)
	f.must(err)
	f.must(f.receiver.Start(ctx))
	f.admin, err = s.AddClient("admin", site.ClientOptions{})
	f.must(err)
	for i := range nodes {
		n, err := s.AddNode(fmt.Sprintf("n%d", i+1), o)
		f.must(err)
		f.nodes = append(f.nodes, n)
	}
	f.each(func(n *site.Node) error { return errors.Join(n.StartServer(ctx), n.StartForwarder(ctx)) })
	return f
}

// end stops all, and keeps what a failed test left.
func (f *fleet) end(dir string) {
	if err := f.Close(); err != nil {
		f.Error(err)
	}
	if !f.Failed() {
		if err := os.RemoveAll(dir); err != nil {
			f.Error(err)
		}
		return
	}
	f.Logf("logs are kept below %s", dir)
	for _, pattern := range []string{"*/forward.log", "receivers/*/receive.log", "*/server.log", "broker/broker.log"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
		for _, file := range files {
			b, err := os.ReadFile(file)
			f.Logf("%s (%v):\n%s", file, err, b[max(0, len(b)-2000):])
		}
	}
}

func (f *fleet) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// each does something at all nodes at once.
func (f *fleet) each(do func(*site.Node) error) {
	f.Helper()
	results := make(chan error, len(f.nodes))
	for _, n := range f.nodes {
		go func() { results <- do(n) }()
	}
	var errs []error
	for range f.nodes {
		errs = append(errs, <-results)
	}
	f.must(errors.Join(errs...))
}
