package site

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/choria-io/tokens"
)

// requestTime bounds one run of choria req, which itself ends well before.
const requestTime = 60 * time.Second

// ClientOptions say what a client has beyond the right to ask the fleet. The zero value is an operator.
type ClientOptions struct {
	DDL       string                   // directory with logforward.json; empty: the site's
	Rights    tokens.ClientPermissions // besides, where security is by tokens
	NoFleet   bool                     // may not ask the fleet
	Publish   []string                 // more subjects, where security is by tokens
	Subscribe []string
	Policy    string // Rego that goes into the token, for servers that let tokens decide
	Settings  map[string]string
}

// Client is an operator or a program at the centre.
type Client struct {
	site *Site
	Name string
	Dir  string
}

// Caller is the client as Choria names it.
func (c *Client) Caller() string {
	if c.site.Security == Tokens {
		return "up=" + c.Name
	}
	return "choria=" + c.certname()
}

func (c *Client) certname() string { return c.Name + ".mcollective" }

// Config is its Choria configuration file.
func (c *Client) Config() string { return filepath.Join(c.Dir, "client.conf") }

// AddClient makes a client.
func (s *Site) AddClient(name string, o ClientOptions) (*Client, error) {
	c := &Client{site: s, Name: name, Dir: s.path("clients", name)}
	if err := c.make(o); err != nil {
		return nil, fmt.Errorf("client %s: %w", name, err)
	}
	return c, nil
}

func (c *Client) make(o ClientOptions) error {
	agents := filepath.Join(c.Dir, "lib", "mcollective", "agent")
	if err := os.MkdirAll(agents, 0o700); err != nil {
		return err
	}
	if c.site.Security == Tokens {
		rights := o.Rights
		rights.FleetManagement = !o.NoFleet
		if err := c.site.authority.clientToken(c.Dir, c.Caller(), o.Policy, o.Publish, o.Subscribe, rights); err != nil {
			return err
		}
	} else if err := c.site.authority.certificate(c.Dir, c.certname()); err != nil {
		return err
	}
	if o.DDL == "" {
		o.DDL = c.site.DDL
	}
	if o.DDL != "" {
		if err := c.InstallDDL(o.DDL); err != nil {
			return err
		}
	}
	k := keys{
		"identity": c.certname(), "collectives": c.site.collective(), "loglevel": "warn", "color": "false", "libdir": filepath.Join(c.Dir, "lib"),
		"plugin.choria.middleware_hosts": c.site.URL(), "plugin.choria.use_srv": "false",
	}
	return k.with(c.site.secure(c.Dir)).with(o.Settings).write(c.Config())
}

// InstallDDL gives the client the agent's description from a directory.
func (c *Client) InstallDDL(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "logforward.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, "lib", "mcollective", "agent", "logforward.json"), b, 0o600)
}

// Choria runs choria with arguments and this client's configuration. Its error holds what was printed.
func (c *Client) Choria(ctx context.Context, args ...string) (stdout []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	c.site.say(c.site.Choria, args...)
	cmd := exec.CommandContext(ctx, c.site.Choria, append(args, "--config", c.Config())...)
	cmd.Env = c.site.environment("MCOLLECTIVE_CERTNAME=" + c.certname())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("choria %q: %w: %s%s", args, err, complaints.String(), out.String())
	}
	return out.Bytes(), nil
}

// Start starts choria with arguments and this client's configuration, for what runs on.
func (c *Client) Start(args ...string) (*Process, error) {
	return c.site.start(c.Name, filepath.Join(c.Dir, "choria.log"), []string{"MCOLLECTIVE_CERTNAME=" + c.certname()}, c.site.Choria, append(args, "--config", c.Config())...)
}

// Inputs are a request's, as they are typed.
type Inputs map[string]string

// Result is what choria req --json prints.
type Result struct {
	RequestID string `json:"-"`
	Replies   []Reply
	Stats     struct {
		RequestID   string        `json:"requestid"`
		NoResponses []string      `json:"no_responses"`
		OK          int           `json:"ok"`
		Failed      int           `json:"failed"`
		RequestTime time.Duration `json:"request_time"`
	} `json:"request_stats"`
	Summaries map[string]map[string]float64 `json:"summaries"` // by output: how often each value, or the average
}

// Reply is one node's. Data are the outputs, those of an error at their defaults; numbers are float64.
type Reply struct {
	Sender  string         `json:"sender"`
	Code    int            `json:"statuscode"`
	Message string         `json:"statusmsg"`
	Data    map[string]any `json:"data"`
}

// From gives one node's reply, and whether there is one.
func (r *Result) From(n *Node) (Reply, bool) {
	i := slices.IndexFunc(r.Replies, func(x Reply) bool { return x.Sender == n.Identity })
	if i < 0 {
		return Reply{}, false
	}
	return r.Replies[i], true
}

// Err says which nodes didn't answer, or with an error; choria req itself ends well all the same.
func (r *Result) Err() error {
	var errs []error
	for _, silent := range r.Stats.NoResponses {
		errs = append(errs, fmt.Errorf("%s: no reply", silent))
	}
	for _, reply := range r.Replies {
		if reply.Code != 0 {
			errs = append(errs, fmt.Errorf("%s: code %d: %s", reply.Sender, reply.Code, reply.Message))
		}
	}
	return errors.Join(errs...)
}

// Request asks an action of an agent of these nodes by choria req. Its error is of the command, not of a node's.
func (c *Client) Request(ctx context.Context, agent, action string, inputs Inputs, nodes ...*Node) (*Result, error) {
	out, err := c.Choria(ctx, append(requestArgs(agent, action, inputs, nodes), "--json")...)
	if err != nil {
		return nil, err
	}
	r := new(Result)
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("choria req %s %s: %w in %.2000s", agent, action, err, out)
	}
	r.RequestID = r.Stats.RequestID
	return r, nil
}

// Req asks an action of logforward.
func (c *Client) Req(ctx context.Context, action string, inputs Inputs, nodes ...*Node) (*Result, error) {
	return c.Request(ctx, "logforward", action, inputs, nodes...)
}

// Text gives what choria req prints for a person.
func (c *Client) Text(ctx context.Context, action string, inputs Inputs, nodes ...*Node) (string, error) {
	out, err := c.Choria(ctx, requestArgs("logforward", action, inputs, nodes)...)
	return string(out), err
}

func requestArgs(agent, action string, inputs Inputs, nodes []*Node) []string {
	args := []string{"req", agent, action}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		args = append(args, name+"="+inputs[name])
	}
	args = append(args, "--np", "--sort")
	for _, n := range nodes {
		args = append(args, "-I", n.Identity)
	}
	return args
}
