package site

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/chunk"
	"logforward/internal/control"
)

// defaultPolicy is that of a node where none is given.
//
//go:embed default.rego
var defaultPolicy string

// NodeOptions say what a node has beyond what every node has. The zero value is a plain node.
type NodeOptions struct {
	Facts          map[string]any    // besides its name
	Classes        []string          // that configuration management gave it
	DDL            string            // directory with the logforward.json that Choria Server has; empty: the site's
	Policies       map[string]string // Rego documents by file name, such as logforward.rego; none: admin may do everything
	Machines       []string          // directories of autonomous agents, copied into the machine store
	ServerSettings map[string]string // added to server.conf
	Settings       map[string]string // added to plugin.d/logforward.cfg
	Plugins        map[string]string // more files of plugin.d, by name
	Environment    []string          // added to that of Choria Server, and so to what it starts
	Choria         string            // another program that is Choria Server; empty: the site's
	Subjects       []string          // that its token permits to publish; none: its own below logs
}

// Node is a machine of the fleet: a Choria Server, and the daemon that forwards its logs.
type Node struct {
	site    *Site
	options NodeOptions

	Name      string // short: n1
	Identity  string // n1.example.net
	Dir       string
	Server    *Process // nil before the first start
	Forwarder *Process
}

// AddNode makes a node; nothing of it is started yet.
func (s *Site) AddNode(name string, o NodeOptions) (*Node, error) {
	n := &Node{site: s, options: o, Name: name, Identity: name + ".example.net", Dir: s.path(name)}
	if err := n.make(); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return n, nil
}

func (n *Node) path(names ...string) string {
	return filepath.Join(append([]string{n.Dir}, names...)...)
}

// Socket is the daemon's.
func (n *Node) Socket() string { return n.path("sock") }

// Config is the file that the daemon's settings are in.
func (n *Node) Config() string { return n.path("etc", "plugin.d", "logforward.cfg") }

// ServerConfig is Choria Server's configuration file.
func (n *Node) ServerConfig() string { return n.path("etc", "server.conf") }

// AuditLog is the file in which Choria Server notes each request.
func (n *Node) AuditLog() string { return n.path("audit.log") }

// Decisions is the file in which the daemon notes what it decided about changes.
func (n *Node) Decisions() string { return n.path("decisions.log") }

// Policy is the document that Choria Server and the daemon decide about logforward by.
func (n *Node) Policy() string { return n.policy() }

// Definitions is the directory of forwarders that configuration management owns.
func (n *Node) Definitions() string { return n.path("etc", "forwarders.d") }

// Staged is the directory of what waits to be applied.
func (n *Node) Staged() string { return n.path("etc", "staged") }

// LogFile is a file of this node that may be forwarded.
func (n *Node) LogFile(name string) string { return n.path("log", name) }

// Write appends to a log file.
func (n *Node) Write(name string, data []byte) error {
	return appendTo(n.LogFile(name), data)
}

func appendTo(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (n *Node) make() error {
	for _, dir := range []string{"bin", "etc/plugin.d", "etc/policies/rego", "etc/forwarders.d", "lib/mcollective/agent", "machine", "spool", "prometheus", "log"} {
		if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
			return err
		}
	}
	program := n.options.Choria
	if program == "" {
		program = n.site.Choria
	}
	if err := n.InstallServer(program); err != nil {
		return err
	}
	if err := errors.Join(n.installProgram(), n.credentials()); err != nil {
		return err
	}
	facts := map[string]any{"node": n.Name}
	for k, v := range n.options.Facts {
		facts[k] = v
	}
	b, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	files := map[string]string{"etc/facts.json": string(b), "etc/classes.txt": strings.Join(n.options.Classes, "\n") + "\n", "etc/policies/rego/default.rego": defaultPolicy}
	for name, policy := range n.options.Policies {
		files["etc/policies/rego/"+name] = policy
	}
	for name, text := range n.options.Plugins {
		files["etc/plugin.d/"+name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, m := range n.options.Machines {
		if err := os.CopyFS(n.path("machine", filepath.Base(m)), os.DirFS(m)); err != nil {
			return err
		}
	}
	if n.site.DDL != "" {
		if err := n.installAgent(); err != nil {
			return err
		}
	}
	return errors.Join(n.serverKeys().write(n.ServerConfig()), n.daemonKeys().write(n.Config()))
}

func (n *Node) credentials() error {
	a := n.site.authority
	if n.site.Security == Certificates {
		return a.certificate(n.path("etc"), n.Identity)
	}
	subjects := n.options.Subjects
	if len(subjects) == 0 {
		subjects = []string{"logs.*." + chunk.Token(n.Identity) + ".>"}
	}
	return a.serverToken(n.path("etc"), n.Identity, []string{n.site.collective()}, subjects, tokens.ServerPermissions{})
}

// installAgent puts the agent where Choria Server looks for it. What is younger than some seconds it
// takes for half written, and leaves until it looks again.
func (n *Node) installAgent() error {
	dir := n.path("lib", "mcollective", "agent")
	ddl := filepath.Join(dir, "logforward.json")
	source := n.options.DDL
	if source == "" {
		source = n.site.DDL
	}
	b, err := os.ReadFile(filepath.Join(source, "logforward.json"))
	if err != nil {
		return err
	}
	if err := os.Symlink(n.site.Logforward, filepath.Join(dir, "logforward")); err != nil {
		return err
	}
	if err := os.WriteFile(ddl, b, 0o600); err != nil {
		return err
	}
	old := time.Now().Add(-time.Hour)
	return os.Chtimes(ddl, old, old)
}

func (n *Node) serverKeys() keys {
	return keys{
		"identity": n.Identity, "collectives": n.site.collective(), "loglevel": "info", "logfile": n.path("server.log"), "soft_shutdown_timeout": "2",
		"plugin.choria.middleware_hosts": n.site.URL(), "plugin.choria.use_srv": "false",
		"plugin.choria.agent_provider.mcorpc.libdir": n.path("lib"),
		"rpcauthorization":                           "1", "rpcauthprovider": "rego_policy", "rpcaudit": "1", "plugin.rpcaudit.logfile": n.AuditLog(),
		"plugin.choria.machine.store": n.path("machine"), "plugin.choria.submission.spool": n.path("spool"),
		"plugin.choria.prometheus_textfile_directory": n.path("prometheus"),
		"plugin.choria.status_file_path":              n.path("status.json"), "plugin.choria.status_update_interval": "5",
		"plugin.yaml": n.path("etc", "facts.json"), "classesfile": n.path("etc", "classes.txt"),
	}.with(n.site.secure(n.path("etc"))).with(n.options.ServerSettings)
}

// policy is the document that Choria Server takes for the agent.
func (n *Node) policy() string {
	for name := range n.options.Policies {
		if name == "logforward.rego" {
			return n.path("etc", "policies", "rego", name)
		}
	}
	return n.path("etc", "policies", "rego", "default.rego")
}

func (n *Node) daemonKeys() keys {
	return keys{
		"destination.central.choria": n.ServerConfig(), "socket": n.Socket(), "wishes": n.path("wishes"), "audit_log": n.Decisions(), "policy": n.policy(), "state": n.path("state"), "forwarders": n.Definitions(),
		"staged": n.Staged(), "former": n.path("etc", "former"),
		"allowed_paths": n.path("log") + "/** " + n.site.path("log") + "/**", "sync_interval": "1s",
		"ensure": n.path("ensure"), "ensure_unit": "", "textfiles": n.path("prometheus"),
	}.with(n.options.Settings)
}

// InstallServer replaces the node's Choria program, also while it runs: the next start is of the new one.
func (n *Node) InstallServer(program string) error {
	link := n.path("bin", "choria.new")
	if err := os.Symlink(program, link); err != nil {
		return err
	}
	return os.Rename(link, n.path("bin", "choria"))
}

// StartServer starts Choria Server, and waits until its agents are there.
func (n *Node) StartServer(ctx context.Context) error {
	p, err := n.site.start(n.Name+" server", n.path("server.log"), append([]string{"PATH=" + n.path("bin") + ":" + os.Getenv("PATH")}, n.options.Environment...), n.path("bin", "choria"), "server", "run", "--config", n.ServerConfig())
	if err != nil {
		return err
	}
	n.Server = p
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	last := "rpcutil"
	if n.site.DDL != "" {
		last = "logforward"
	}
	return p.Await(ctx, "Registering new agent "+last+` `)
}

// Status is what the daemon says of itself, asked on its socket.
func (n *Node) Status(ctx context.Context) (control.StatusReply, error) {
	return control.NewClient(n.Socket()).Status(ctx, control.StatusRequest{History: true})
}

// Await waits until the daemon has so many logs, all of them so.
func (n *Node) Await(ctx context.Context, logs int, so func(control.LogStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return until(ctx, func() error {
		s, err := n.Status(ctx)
		if err == nil && (len(s.Logs) != logs || slices.ContainsFunc(s.Logs, func(l control.LogStatus) bool { return !so(l) })) {
			err = fmt.Errorf("%s isn't as it should be: %+v", n.Name, s.Logs)
		}
		return err
	})
}

// Confirmed tells of a log that all of its bytes are central, and how many these are.
func Confirmed(bytes int) func(control.LogStatus) bool {
	return func(l control.LogStatus) bool { return l.Confirmed == uint64(bytes) && l.LagBytes == 0 }
}

// StartForwarder starts the node's daemon, and waits until it answers.
func (n *Node) StartForwarder(ctx context.Context) error {
	p, err := n.site.start(n.Name+" forward", n.path("forward.log"), nil, n.site.Logforward, "forward", "--config", n.Config())
	if err != nil {
		return err
	}
	n.Forwarder = p
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return p.Await(ctx, `msg=forwarding `)
}
