package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A test that is killed from outside takes its roots with it, and all that runs in them.
func TestKilledTestLeavesNoRoot(t *testing.T) {
	const victim = "LOGFORWARD_TEST_VICTIM"
	if os.Getenv(victim) != "" {
		r := newRoot(t)
		sleeper := r.command(t.Context(), "sleep", "3600")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("pids", r.keeper.Process.Pid, r.pid, sleeper.Process.Pid)
		select {}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a mount namespace: no root is left behind")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), victim+"=1", "TMPDIR="+t.TempDir()) // it can't remove what it makes
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	var pids []int
	for lines := bufio.NewScanner(out); len(pids) == 0 && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "pids "); ok {
			pids = make([]int, 3)
			if _, err := fmt.Sscan(rest, &pids[0], &pids[1], &pids[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if len(pids) == 0 {
		t.Fatal("the test that is to be killed made no root")
	}
	for _, pid := range pids {
		end := time.Now().Add(10 * time.Second)
		for alive(pid) && time.Now().Before(end) {
			time.Sleep(10 * time.Millisecond)
		}
		if alive(pid) {
			t.Errorf("process %d outlives its test", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// alive: it is there, and no zombie that nobody waits for.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}
