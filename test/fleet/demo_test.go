package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demonstration is make fleet's program, which works below a directory of its own.
type demonstration struct {
	cmd *exec.Cmd
	dir string
	out string // file
}

func startDemo(t *testing.T, program string) *demonstration {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo-") // a test's own directory has a name too long for sockets below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &demonstration{dir: dir, out: filepath.Join(t.TempDir(), "out")}
	out, err := os.Create(d.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d.cmd = exec.CommandContext(t.Context(), program, "--choria", programs.Choria, "--logforward", programs.Logforward, "--ddl", programs.DDL)
	d.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *demonstration) said(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(d.out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// processes are those whose command line names the directory.
func (d *demonstration) processes() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, file := range all {
		if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte(d.dir)) { // it may have ended
			found = append(found, file+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// left fails where processes or files are still there.
func (d *demonstration) left(t *testing.T) {
	t.Helper()
	if found := d.processes(); len(found) > 0 {
		t.Errorf("still running: %s", found)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) > 0 {
		t.Errorf("still there: %v (%v)", entries, err)
	}
}

// What is shown is what the guide promises, and nothing stays: at the end, after Ctrl-C at any moment, which
// the whole foreground gets, and, of what runs, after a kill.
func TestDemonstration(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", program, "logforward/test/fleet/demo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Run("to the end", func(t *testing.T) {
		t.Parallel()
		d := startDemo(t, program)
		err := d.cmd.Wait()
		said := d.said(t)
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		d.left(t)
		rest := said
		for _, want := range []string{
			"choria req logforward start", "starting: 3", " 1000 lines in receivers/central/output/n3.example.net/app.log",
			"choria req logforward pause", "paused: 3", "1000 lines more", "choria req logforward status", "State: paused", "maintenance",
			"choria req logforward resume", " 2000 lines in receivers/central/output/n3.example.net/app.log",
			"choria req logforward redirect", " 1000 lines in receivers/archive/output/n3.example.net/app.log",
			"choria req logforward check", "ok: 3", "choria req logforward list", "defined: 3",
			"choria req logforward stop", "draining: 3", "All processes have ended.",
		} {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Fatalf("no %q in its place of\n%s", want, said)
			}
			rest = after
		}
	})
	for _, until := range []string{"below", "choria server run --config n2", "1000 lines are in"} {
		for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "kill": syscall.SIGKILL} {
			t.Run(fmt.Sprintf("%s after %q", name, until), func(t *testing.T) {
				t.Parallel()
				d := startDemo(t, program)
				waitUntil(t, until, func() error {
					if !strings.Contains(d.said(t), until) {
						return errors.New("it hasn't said so")
					}
					return nil
				})
				if err := syscall.Kill(-d.cmd.Process.Pid, signal); err != nil {
					t.Fatal(err)
				}
				err := d.cmd.Wait()
				if signal == syscall.SIGKILL {
					waitUntil(t, "the others to end", func() error {
						if found := d.processes(); len(found) > 0 {
							return fmt.Errorf("still running: %s", found)
						}
						return nil
					})
					return
				}
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 130 || !strings.Contains(d.said(t), "interrupted") {
					t.Errorf("ended with %v: %s", err, d.said(t))
				}
				d.left(t)
			})
		}
	}
}

func waitUntil(t *testing.T, what string, so func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = so(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
