package site

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"logforward/test/proc"
)

// Programs are what a site runs.
type Programs struct {
	Choria     string // the real one, 0.29.4
	Next       string // broker and server of 0.30.2
	Logforward string // of the working tree
	DDL        string // directory of the agent's description
	Machines   string // directory of autonomous agents
}

// Build builds the programs: logforward into dir, if [proc.Program] has none, Choria, which takes a minute the first time, into the
// repository's bin, where it is built again only when its module changes.
func Build(ctx context.Context, dir string) (Programs, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	p := Programs{
		Choria: filepath.Join(root, "bin", "choria"), Next: filepath.Join(root, "bin", "choria-next"),
		DDL: filepath.Join(root, "ddl"), Machines: filepath.Join(root, "machine"),
	}
	if p.Logforward, err = proc.Program(dir); err != nil {
		return p, err
	}
	// Several packages' tests may want it at once.
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o755); err != nil {
		return p, err
	}
	lock, err := os.OpenFile(filepath.Join(root, "bin", ".choria.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return p, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return p, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return p, run(ctx, root, "make", "-s", "choria")
}

func run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}
