package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// facts writes what a reader must know about the machine, one configuration line each; nothing that names it.
func facts(w io.Writer) error {
	fact := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s: %s\n", key, value)
		}
	}
	fact("measured", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	fact("commit", output("git", "describe", "--always", "--dirty", "--abbrev=12"))
	fact("go", strings.TrimPrefix(runtime.Version(), "go"))
	fact("cores", fmt.Sprint(runtime.NumCPU()))
	fact("memory", memory())
	fact("kernel", strings.TrimSpace(file("/proc/sys/kernel/ostype")+" "+file("/proc/sys/kernel/osrelease")))
	if bytes.Contains([]byte(file("/proc/cpuinfo")), []byte(" hypervisor ")) {
		fact("machine", "virtual")
	}
	fs, err := filesystem(os.TempDir())
	if err != nil {
		return err
	}
	fact("file-system", fs)
	if load := strings.Fields(file("/proc/loadavg")); len(load) > 0 {
		fact("load-before", load[0])
	}
	fact("inotify-watches", file("/proc/sys/fs/inotify/max_user_watches"))
	fact("rsyslog", version("rsyslogd", "-v"))
	fact("syslog-ng", version("syslog-ng", "--version"))
	return nil
}

func file(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// output is the first line that a command says, or nothing.
func output(name string, args ...string) string {
	cmd := exec.Command(name, args...)
	b, err := cmd.Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

func memory() string {
	for line := range strings.Lines(file("/proc/meminfo")) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "MemTotal: %f kB", &kib); n == 1 {
			return fmt.Sprintf("%.0f GiB", kib/(1<<20))
		}
	}
	return ""
}

// filesystem is the kind of the one that temporary files of the benchmarks lie on.
func filesystem(dir string) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "", err
	}
	if name := map[int64]string{0xef53: "ext2/3/4", 0x9123683e: "btrfs", 0x58465342: "xfs", 0x01021994: "tmpfs", 0x794c7630: "overlay", 0x2fc12fc1: "zfs"}[int64(s.Type)]; name != "" {
		return name, nil
	}
	return fmt.Sprintf("of kind %#x", s.Type), nil
}

// version is that of a program which others' users run: unpacked by make bench-peers, or installed.
func version(program, flag string) string {
	path := filepath.Join("bin", "peers", "root", "usr", "sbin", program)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(program); err != nil {
			path = filepath.Join("/usr/sbin", program)
		}
	}
	cmd := exec.Command(path, flag)
	var libraries []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/syslog-ng"} {
		found, _ := filepath.Glob(filepath.Join("bin", "peers", "root", pattern))
		libraries = append(libraries, found...)
	}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	b, err := cmd.Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line, _, _ = strings.Cut(strings.TrimSpace(line), " (")
	return strings.Join(strings.Fields(line), " ")
}
