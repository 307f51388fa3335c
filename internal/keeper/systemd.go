package keeper

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// booted is the directory that is there where systemd is the first process, as sd_booted(3) has it.
const booted = "/run/systemd/system"

// unit tells whether the daemon is systemd's to start.
func (k *Keeper) unit(ctx context.Context) bool {
	if k.config.Unit == "" {
		return false
	}
	if info, err := os.Lstat(booted); err != nil || !info.IsDir() {
		return false
	}
	p := k.properties(ctx, "LoadState")
	return p["LoadState"] != "" && p["LoadState"] != "not-found"
}

// systemd has the daemon started. A unit that failed too often for systemd's own taste is forgiven first: how
// often to try is decided here.
func (k *Keeper) systemd(ctx context.Context) (ended <-chan struct{}, err error) {
	if p := k.properties(ctx, "LoadState"); p["LoadState"] == "masked" {
		return nil, fmt.Errorf("the unit %s is masked: systemctl unmask %s", k.config.Unit, k.config.Unit)
	}
	_, _ = systemctl(ctx, "reset-failed", k.config.Unit) // it says so where there is nothing to reset
	if out, err := systemctl(ctx, "start", "--no-block", k.config.Unit); err != nil {
		return nil, fmt.Errorf("systemctl start %s: %w: %s", k.config.Unit, err, words(out, noWord))
	}
	return nil, nil
}

// unitWords are what systemd knows of how the daemon ended.
func (k *Keeper) unitWords(ctx context.Context) string {
	p := k.properties(ctx, "Result,ExecMainStatus")
	text := fmt.Sprintf("%s: result %s, status %s", k.config.Unit, p["Result"], p["ExecMainStatus"])
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", "--unit", k.config.Unit, "--lines", fmt.Sprint(lines), "--output", "cat", "--no-pager", "--quiet")
	cmd.WaitDelay = time.Second
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		text = words(out, noWord) + " | " + text
	}
	return text
}

// properties asks systemd about the unit; none where it doesn't answer.
func (k *Keeper) properties(ctx context.Context, names string) map[string]string {
	out, err := systemctl(ctx, "show", "--property", names, k.config.Unit)
	all := map[string]string{}
	if err != nil {
		return all
	}
	for line := range strings.Lines(string(out)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			all[name] = value
		}
	}
	return all
}

func systemctl(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
