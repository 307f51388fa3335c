package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MachineStore is where Choria Server looks for autonomous agents.
func (n *Node) MachineStore() string { return n.path("machine") }

// Program is the node's own copy of logforward, which ensure starts the daemon from.
func (n *Node) Program() string { return n.path("bin", "logforward-program") }

// Command is what is on the PATH of the node's Choria Server: the program with the node's own settings.
func (n *Node) Command() string { return n.path("bin", "logforward") }

// InstallMachine puts an autonomous agent into the store, whole at once. edit changes its machine.yaml; nil: nothing does.
func (n *Node) InstallMachine(source string, edit func(string) string) error {
	name := filepath.Base(source)
	fresh := filepath.Join(n.MachineStore(), name+"-temp") // Choria leaves such alone
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.CopyFS(fresh, os.DirFS(source)); err != nil {
		return err
	}
	if edit != nil {
		if err := rewrite(filepath.Join(fresh, "machine.yaml"), edit); err != nil {
			return err
		}
	}
	target := filepath.Join(n.MachineStore(), name)
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	return os.Rename(fresh, target)
}

// EditMachine replaces the machine.yaml of one that is installed.
func (n *Node) EditMachine(name string, edit func(string) string) error {
	return rewrite(filepath.Join(n.MachineStore(), name, "machine.yaml"), edit)
}

func rewrite(file string, edit func(string) string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := edit(string(b))
	if text == string(b) {
		return fmt.Errorf("%s: nothing was edited", file)
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// MachineData is what a machine remembers.
func (n *Node) MachineData(name string) (map[string]any, error) {
	b, err := os.ReadFile(filepath.Join(n.MachineStore(), name, "machine_data.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	return data, json.Unmarshal(b, &data)
}

// installProgram gives the node a logforward of its own, which can be replaced.
func (n *Node) installProgram() error {
	if err := os.Link(n.site.Logforward, n.Program()); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" --config %s\n", n.Program(), n.Config())
	return os.WriteFile(n.Command(), []byte(script), 0o755)
}

// OwnEtc gives the node's Choria Server, and all that it starts, the node's configuration as /etc/choria: what is
// there by default is what they find. It takes a mount namespace, and so root.
func (n *Node) OwnEtc() error {
	if err := os.MkdirAll("/etc/choria", 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(n.path("etc", "logforward"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(n.Definitions(), n.path("etc", "logforward", "forwarders.d")); err != nil {
		return err
	}
	program, err := os.Readlink(n.path("bin", "choria"))
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -c 'mount --bind %s /etc/choria && exec \"$@\"' sh %s \"$@\"\n", n.path("etc"), program)
	if err := os.WriteFile(n.path("bin", "choria.new"), []byte(script), 0o755); err != nil {
		return err
	}
	return os.Rename(n.path("bin", "choria.new"), n.path("bin", "choria"))
}

// SetServer adds a setting to Choria Server's, from its next start on.
func (n *Node) SetServer(key, value string) error {
	n.options.ServerSettings = keys(n.options.ServerSettings).with(keys{key: value})
	return n.serverKeys().write(n.ServerConfig())
}

// EditServer replaces Choria Server's configuration as it is, whoever wrote it.
func (n *Node) EditServer(edit func(string) string) error { return rewrite(n.ServerConfig(), edit) }

// SetDaemon adds a setting to the daemon's, from its next start on.
func (n *Node) SetDaemon(key, value string) error {
	n.options.Settings = keys(n.options.Settings).with(keys{key: value})
	return n.daemonKeys().write(n.Config())
}

// Daemons are the processes that run a program of the node's own as its daemon.
func (n *Node) Daemons() ([]int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, exe := range all {
		program, err := os.Readlink(exe)
		if err != nil || !strings.HasPrefix(program, n.Dir+"/") {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		if err != nil || !strings.Contains(string(line), "\x00forward\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// EndDaemons ends those that no [Process] stands for. Choria Server must have ended before, or it starts another.
func (n *Node) EndDaemons() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	signal := syscall.SIGTERM
	deadline := time.Now().Add(stopTime / 2)
	return until(ctx, func() error {
		pids, err := n.Daemons()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal) // they may end meanwhile
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		return fmt.Errorf("%s: daemons %v haven't ended", n.Name, pids)
	})
}

// TextFiles are what Choria Server writes for Prometheus' node exporter, all files together.
func (n *Node) TextFiles() (string, error) {
	files, err := filepath.Glob(n.path("prometheus", "*.prom"))
	var all strings.Builder
	for _, file := range files {
		b, e := os.ReadFile(file)
		if !errors.Is(e, fs.ErrNotExist) { // replaced meanwhile
			err = errors.Join(err, e)
		}
		all.Write(b)
	}
	return all.String(), err
}
