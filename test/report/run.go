package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// suite is what one process of a package's test program measures.
type suite struct {
	dir     string // of the package
	bench   string // the benchmark, and with a slash its variant
	count   int    // repetitions, of which the page shows the median
	timeout time.Duration
}

// suites are in the order of the page. All of them take about a quarter of an hour on two cores.
var suites = []suite{
	{"test/pipe", "Throughput/files=1", 7, 4 * time.Minute}, // of which one or two take a third longer, for the machine's sake
	{"test/pipe", "Throughput/s2", 1, 3 * time.Minute},
	{"test/pipe", "Throughput/files=200", 1, 3 * time.Minute},
	{"test/pipe", "Throughput/files=10000", 1, 4 * time.Minute},
	{"test/pipe", "Latency", 3, 3 * time.Minute},
	{"test/pipe", "Idle", 1, 2 * time.Minute},
	{"agent", "Request", 1, 2 * time.Minute},
	{"test/pipe", "Recovery", 1, 5 * time.Minute},
	{"test/pipe", "ChunkSize", 1, 3 * time.Minute},
	{"test/pipe", "Compression", 1, 2 * time.Minute},
	{"test/pipe", "Replicas", 1, 3 * time.Minute},
	{"test/pipe", "Sites", 1, 2 * time.Minute},
	{"test/pipe", "RedButton", 1, 4 * time.Minute},
	{"internal/receive", "Team", 1, 4 * time.Minute},
	{"internal/receive", "ManyActiveLogs", 1, 4 * time.Minute},
	{"internal/receive", "TakeOver", 1, 4 * time.Minute},
	{"test/pipe", "Peers", 1, 5 * time.Minute},
	{"test/pipe", "PeersLatency", 1, 4 * time.Minute},
	{"test/pipe", "Crash", 1, 6 * time.Minute},
}

// kept are the lines of a benchmark's output that are results: logs name directories of this machine.
var kept = regexp.MustCompile(`^(Benchmark\S+\s+\d+\s.*|(goos|goarch|pkg|cpu): .*|\s*--- (FAIL|SKIP): \S+)\s*$`)

// failedFact begins the name of the line that says that a suite failed.
const failedFact = "failed-"

// measureAll runs the suites whose name matches and writes their output, and what is known of the machine, to a file.
func measureAll(path, match string, quick bool) error {
	pattern, err := regexp.Compile(match)
	if err != nil {
		return err
	}
	var known bytes.Buffer
	if err := facts(&known); err != nil { // before anything here changes
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(known.Bytes()); err != nil {
		return err
	}
	if quick {
		fmt.Fprintln(out, "load: small, to see whether it works: these are no figures")
	}
	// What a program that is ended by force leaves goes with this. It is short, for the paths of sockets.
	scratch, err := os.MkdirTemp("", "lf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	programs := map[string]string{}
	begin := time.Now()
	for _, s := range suites {
		if !pattern.MatchString(s.bench) {
			continue
		}
		program := programs[s.dir]
		if program == "" {
			if program, err = compile(s.dir); err != nil {
				return err
			}
			programs[s.dir] = program
		}
		fmt.Printf("%5.0fs  %s\n", time.Since(begin).Seconds(), s.bench)
		if err := s.run(out, program, scratch, quick); err != nil {
			fmt.Printf("        FAILED: %v\n", err)
			fmt.Fprintf(out, "%s%s: %v\n", failedFact, strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(s.bench, "-")), err)
		}
	}
	fmt.Fprintf(out, "minutes: %.0f\n", time.Since(begin).Minutes())
	fmt.Printf("%5.0fs  done\n", time.Since(begin).Seconds())
	return out.Close()
}

// compile makes a package's test program.
func compile(dir string) (string, error) {
	program, err := filepath.Abs(filepath.Join("bin", "bench", filepath.Base(dir)+".test"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "test", "-c", "-o", program, "./"+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go test -c ./%s: %w", dir, err)
	}
	return program, nil
}

func (s suite) run(out io.Writer, program, scratch string, quick bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout+20*time.Second) // go's own timeout shows where it hung
	defer cancel()
	exact := strings.Split("Benchmark"+s.bench, "/")
	for i, part := range exact {
		exact[i] = "^" + part + "$"
	}
	count := s.count
	env := append(os.Environ(), "TMPDIR="+scratch)
	if quick {
		count = 1
		env = append(env, "LOGFORWARD_BENCH_MIB=64")
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", strings.Join(exact, "/"), "-test.benchtime", "1x",
		"-test.count", fmt.Sprint(count), "-test.timeout", s.timeout.String())
	cmd.Dir, cmd.Env = s.dir, env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	both := io.MultiWriter(&said, os.Stdout)
	cmd.Stdout, cmd.Stderr = both, both
	err := cmd.Run()
	for line := range strings.Lines(said.String()) {
		if kept.MatchString(line) {
			fmt.Fprint(out, line)
		}
	}
	if ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("not done within %s", s.timeout))
	}
	return err
}
