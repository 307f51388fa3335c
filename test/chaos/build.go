package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build makes the program under test, with some source files replaced (nil: none).
func build(output string, overlay map[string]string) error {
	args := []string{"build", "-o", output}
	if len(overlay) > 0 {
		b, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return err
		}
		file := output + ".overlay.json"
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return err
		}
		args = append(args, "-overlay", file)
	}
	out, err := exec.Command("go", append(args, "logforward/cmd/logforward")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// clockVariable names the file that a process's clock is off by: eight bytes, seconds, in the machine's order; into the next eight goes what time.Now said last. Go reads the clock without a
// system call, so nothing outside a process can change it for that process alone. A program that is to have a clock of its own is
// built with another time.Now, which adds what the file says now. The monotonic clock is left alone, as it is where
// a machine's clock is set.
const clockVariable = "CHAOS_CLOCK"

const nowBegin = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

const stepSource = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var step = mapStep()

func mapStep() *[2]int64 {
	path, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return new([2]int64)
	}
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	defer syscall.Close(fd)
	b, err := syscall.Mmap(fd, 0, 16, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	return (*[2]int64)(unsafe.Pointer(&b[0]))
}

func stepped(sec int64) int64 {
	sec += atomic.LoadInt64(&step[0])
	atomic.StoreInt64(&step[1], sec)
	return sec
}
`

// buildStepped makes a program whose clock can be stepped.
func buildStepped(output string) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	b, err := os.ReadFile(filepath.Join(dir, "time.go"))
	if err != nil {
		return err
	}
	if strings.Count(string(b), nowBegin) != 1 {
		return fmt.Errorf("this Go's time.Now doesn't begin as it is known to")
	}
	now, step := output+".now.go", output+".step.go"
	changed := strings.Replace(string(b), nowBegin, nowBegin+"\tsec = stepped(sec)\n", 1)
	if err := os.WriteFile(now, []byte(changed), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(step, []byte(stepSource), 0o644); err != nil {
		return err
	}
	return build(output, map[string]string{filepath.Join(dir, "time.go"): now, filepath.Join(dir, "step.go"): step})
}
