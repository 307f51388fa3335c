package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/chunk"
)

// commandTime bounds one run of a logforward command.
const commandTime = time.Minute

// Receiver is a central process with its own files.
type Receiver struct {
	site    *Site
	Name    string
	Dir     string
	Process *Process // nil before the first start
}

// Setup makes the streams and buckets, as a streams administrator.
func (s *Site) Setup(ctx context.Context, args ...string) error {
	c, err := s.AddClient("streams", ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{StreamsAdmin: true, StreamsUser: true}})
	if err != nil {
		return err
	}
	_, err = s.Command(ctx, append([]string{"setup", "--choria", c.Config()}, args...)...)
	return err
}

// Command runs a logforward command to its end, and gives what it printed.
func (s *Site) Command(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	s.say(s.Logforward, args...)
	cmd := exec.CommandContext(ctx, s.Logforward, args...)
	cmd.Env = s.environment()
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("logforward %q: %w: %s", args, err, complaints.String())
	}
	return out.Bytes(), nil
}

// AddReceiver makes a receiver, with no more rights than it needs; settings are added to its own.
func (s *Site) AddReceiver(name string, settings map[string]string) (*Receiver, error) {
	c, err := s.AddClient(name, ClientOptions{
		NoFleet: true, Rights: tokens.ClientPermissions{StreamsUser: true},
		// Chunks in the wrong stream, and hellos for another receiver, go to subjects below the prefix.
		Subscribe: []string{"logs.sync.>"}, Publish: []string{s.collective() + ".reply.>", "logs.>"},
	})
	if err != nil {
		return nil, err
	}
	return s.makeReceiver(name, keys{"choria": c.Config()}.with(settings))
}

func (s *Site) makeReceiver(name string, settings keys) (*Receiver, error) {
	r := &Receiver{site: s, Name: name, Dir: s.path("receivers", name)}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, err
	}
	k := keys{
		"receiver": name, "output": r.Output(), "state": filepath.Join(r.Dir, "state"), "commit_interval": "100ms", "compress": "none",
		"rotate_every": "0", // at midnight, or Received finds a part only
	}.with(settings)
	return r, k.write(r.Config())
}

// Config is its settings' file.
func (r *Receiver) Config() string { return filepath.Join(r.Dir, "receive.cfg") }

// Output is the directory of central files.
func (r *Receiver) Output() string { return filepath.Join(r.Dir, "output") }

// Start starts the receiver, and waits until it works.
func (r *Receiver) Start(ctx context.Context) error {
	p, err := r.site.start("receiver "+r.Name, filepath.Join(r.Dir, "receive.log"), nil, r.site.Logforward, "receive", "--config", r.Config())
	if err != nil {
		return err
	}
	r.Process = p
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return p.Await(ctx, `msg=receiving `)
}

// Received gives the bytes of a node's log that are in the central file; none: nothing has come yet.
func (r *Receiver) Received(n *Node, log string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(r.Output(), n.Identity, chunk.FileName(log)+".log"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Wait waits until a node's log has arrived as it should be; that it then stays so is for the caller to see.
func (r *Receiver) Wait(ctx context.Context, n *Node, log string, want []byte) error {
	return until(ctx, func() error {
		got, err := r.Received(n, log)
		switch {
		case err != nil:
			return err
		case bytes.Equal(got, want):
			return nil
		case !bytes.HasPrefix(want, got):
			return final{fmt.Errorf("%s of %s: %d bytes arrived that aren't the first of the %d written", log, n.Identity, len(got), len(want))}
		}
		return fmt.Errorf("%s of %s: %d of %d bytes have arrived", log, n.Identity, len(got), len(want))
	})
}

// WaitLonger waits until more than so many bytes of a node's log have arrived.
func (r *Receiver) WaitLonger(ctx context.Context, n *Node, log string, than int) error {
	return until(ctx, func() error {
		got, err := r.Received(n, log)
		if err == nil && len(got) <= than {
			err = fmt.Errorf("%s of %s: %d bytes have arrived, as before", log, n.Identity, len(got))
		}
		return err
	})
}
