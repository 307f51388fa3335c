package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/freeport"
)

// Security is how the parts of a fleet prove who they are.
type Security int

// The two ways that Choria knows.
const (
	Tokens       Security = iota // an organization issuer's ed25519 JWTs, protocol v2
	Certificates                 // certificates of one authority, mutual TLS
)

func (s Security) String() string {
	if s == Tokens {
		return "tokens"
	}
	return "certificates"
}

// Config is what a site is made of. Programs are absolute paths.
type Config struct {
	Dir        string // everything lies below it; short, for unix sockets have at most 107 bytes
	Security   Security
	Choria     string    // program that is broker, server and client
	Broker     string    // another program for the broker; empty: Choria
	Logforward string    // program that is node daemon, receiver and agent
	DDL        string    // directory with logforward.json, and more to copy; empty: no agent is installed
	Commands   io.Writer // gets each command line before it is run; nil: nobody does
}

// brokerName is the broker's identity, which clients reach it by.
const brokerName = "localhost"

// startTime is how long a part may take until it is ready.
const startTime = 90 * time.Second

// Site is a running fleet. Its methods may be used by one goroutine; those of its parts by one each.
type Site struct {
	Config
	Port   int // the broker's, on 127.0.0.1
	Broker *Process

	authority *authority
	launcher  *launcher

	mu        sync.Mutex
	processes []*Process // all that were started, oldest first
}

// Start makes the authority and a broker, and waits until its streams can be used.
func Start(ctx context.Context, c Config) (*Site, error) {
	for what, program := range map[string]string{"choria": c.Choria, "logforward": c.Logforward} {
		if !filepath.IsAbs(program) {
			return nil, fmt.Errorf("site: program %s %q: want an absolute path", what, program)
		}
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	c.Dir = dir
	if c.Broker == "" {
		c.Broker = c.Choria
	}
	s := &Site{Config: c, launcher: newLauncher()}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("site: %w", err), s.Close())
	}
	return s, nil
}

func (s *Site) begin(ctx context.Context) (err error) {
	if s.authority, err = newAuthority(filepath.Join(s.Dir, "authority")); err != nil {
		return err
	}
	if s.Port, err = freeport.Port(); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(s.path("log"), 0o700), s.configureBroker()); err != nil {
		return err
	}
	return s.StartBroker(ctx)
}

// collective is the one that all belong to: of the two defaults that Choria has had.
func (s *Site) collective() string {
	if s.Security == Tokens {
		return "choria"
	}
	return "mcollective"
}

func (s *Site) path(names ...string) string {
	return filepath.Join(append([]string{s.Dir}, names...)...)
}

// LogFile is a file that every node sees, and may forward: where one request names one path for all nodes, each
// would have a file of its own there on a machine of its own.
func (s *Site) LogFile(name string) string { return s.path("log", name) }

// Write appends to it.
func (s *Site) Write(name string, data []byte) error { return appendTo(s.LogFile(name), data) }

// URL is where the broker listens.
func (s *Site) URL() string { return "nats://" + net.JoinHostPort(brokerName, strconv.Itoa(s.Port)) }

func (s *Site) configureBroker() error {
	dir := s.path("broker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.authority.certificate(dir, brokerName); err != nil {
		return err
	}
	k := keys{
		"identity": brokerName, "loglevel": "info", "logfile": filepath.Join(dir, "broker.log"), "collectives": s.collective(), "plugin.choria.use_srv": "false",
		"plugin.choria.broker_network": "true", "plugin.choria.network.listen_address": "127.0.0.1", "plugin.choria.network.client_port": strconv.Itoa(s.Port),
		"plugin.choria.network.stream.store": filepath.Join(dir, "streams"),
	}
	// By default there are as many replicas as brokers are found, after a while of looking.
	for _, stream := range []string{"event", "machine", "advisory", "leader_election", "executor"} {
		k["plugin.choria.network.stream."+stream+"_replicas"] = "1"
	}
	if s.Security == Tokens {
		if err := s.authority.serverToken(dir, brokerName, []string{s.collective()}, nil, tokens.ServerPermissions{}); err != nil {
			return err
		}
		k = k.with(s.secure(dir)).with(keys{"plugin.security.choria.certificate": filepath.Join(dir, "cert.pem"), "plugin.security.choria.key": filepath.Join(dir, "key.pem")})
		k["plugin.choria.network.provisioning.client_password"] = provisioningPassword
		delete(k, "plugin.security.choria.ca") // with one it would want certificates of those who have tokens
	} else {
		k = k.with(s.secure(dir))
	}
	return k.write(filepath.Join(dir, "broker.conf"))
}

// secure are the keys by which a part uses the credentials in a directory.
func (s *Site) secure(dir string) keys {
	file := func(name string) string { return filepath.Join(dir, name) }
	if s.Security == Certificates {
		return keys{
			"plugin.security.provider": "file", "plugin.security.file.ca": s.authority.ca(),
			"plugin.security.file.certificate": file("cert.pem"), "plugin.security.file.key": file("key.pem"),
		}
	}
	return keys{
		"plugin.security.provider": "choria", "plugin.security.choria.ca": s.authority.ca(),
		"plugin.security.choria.token_file": file("token.jwt"), "plugin.security.choria.seed_file": file("token.seed"),
		"plugin.security.issuer.names": organization, "plugin.security.issuer." + organization + ".public": s.authority.public(),
	}
}

// StartBroker starts the broker, also again after it was stopped, on the same port and store.
func (s *Site) StartBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	p, err := s.start("broker", s.path("broker", "broker.log"), nil, s.Config.Broker, "broker", "run", "--config", s.path("broker", "broker.conf"))
	if err != nil {
		return err
	}
	s.Broker = p
	return p.Await(ctx, `(Created|Configured) stream KV_CHORIA_LEADER_ELECTION`)
}

// environment is that of every process here: nothing of the caller's but the path.
func (s *Site) environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "USER=root", "TMPDIR=" + os.TempDir(), "LANG=C"}, more...)
}

func (s *Site) start(name, log string, env []string, program string, args ...string) (*Process, error) {
	s.say(program, args...)
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return nil, err
	}
	p, err := s.launcher.start(name, log, s.environment(env...), program, args...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes = append(s.processes, p)
	return p, nil
}

// say shows a command line as one would type it.
func (s *Site) say(program string, args ...string) {
	if s.Commands == nil {
		return
	}
	line := filepath.Base(program)
	for _, a := range args {
		a = strings.ReplaceAll(a, s.Dir+"/", "")
		if strings.ContainsAny(a, " '\"$*?&;|<>(){}\\\n\t") || a == "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		line += " " + a
	}
	fmt.Fprintln(s.Commands, line)
}

// Close stops all processes, the youngest first, and waits for them. The files stay.
func (s *Site) Close() error {
	s.mu.Lock()
	all := slices.Clone(s.processes)
	s.processes = nil
	s.mu.Unlock()
	var errs []error
	slices.Reverse(all)
	// The broker is the oldest; the others end side by side, while it still answers them.
	var others sync.WaitGroup
	results := make([]error, len(all))
	for i, p := range all {
		if p == s.Broker {
			continue
		}
		others.Go(func() { results[i] = p.Stop() })
	}
	others.Wait()
	errs = append(errs, results...)
	if s.Broker != nil {
		errs = append(errs, s.Broker.Stop())
	}
	s.launcher.close()
	return errors.Join(errs...)
}
