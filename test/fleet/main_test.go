package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/test/fleet/site"
)

// patience bounds what is waited for.
const patience = 2 * time.Minute

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
	archive  *site.Destination // nil: there is none
	nodes    []*site.Node
	admin    *site.Client
}

// options say what a fleet has beyond what every fleet has.
type options struct {
	site    func(*site.Config) // adapts the site
	node    site.NodeOptions   // of all nodes
	archive bool               // nodes have another destination, archive
	idle    bool               // nothing of the nodes is started
	time    time.Duration      // bounds what is waited for; 0: patience
}

// newFleet starts a fleet of so many nodes, which all run.
func newFleet(t *testing.T, security site.Security, nodes int) *fleet {
	t.Helper()
	return newFleetOf(t, security, nodes, options{})
}

// newFleetOf starts one that has more.
func newFleetOf(t *testing.T, security site.Security, nodes int, o options) *fleet {
	t.Helper()
	if o.time == 0 {
		o.time = patience
	}
	ctx, cancel := context.WithTimeout(t.Context(), o.time)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "fleet-") // a test's own directory has a name too long for sockets below it
	if err != nil {
		t.Fatal(err)
	}
	c := site.Config{Dir: dir, Security: security, Choria: programs.Choria, Logforward: programs.Logforward, DDL: programs.DDL}
	if o.site != nil {
		o.site(&c)
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
	if o.archive {
		f.archive, err = s.AddDestination(ctx, "archive")
		f.must(err)
		settings := f.archive.Settings()
		maps.Copy(settings, o.node.Settings)
		o.node.Settings = settings
	}
	f.admin, err = s.AddClient("admin", site.ClientOptions{})
	f.must(err)
	for i := range nodes {
		n, err := s.AddNode(fmt.Sprintf("n%d", i+1), o.node)
		f.must(err)
		f.nodes = append(f.nodes, n)
	}
	if !o.idle {
		f.each(func(n *site.Node) error { return errors.Join(n.StartServer(ctx), n.StartForwarder(ctx)) })
	}
	return f
}

// end stops all, and keeps what a failed test left.
func (f *fleet) end(dir string) {
	if err := f.Close(); err != nil {
		f.Error(err)
	}
	for _, n := range f.nodes {
		if err := n.EndDaemons(); err != nil {
			f.Error(err)
		}
	}
	if !f.Failed() {
		if err := os.RemoveAll(dir); err != nil {
			f.Error(err)
		}
		return
	}
	f.Logf("logs are kept below %s", dir)
	for _, pattern := range []string{"*/forward.log", "receivers/*/*.log", "*/server.log", "broker/broker.log"} {
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
