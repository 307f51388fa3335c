package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every command has a page that tells of each of its flags, and man reads it without a complaint.
func TestManualTellsOfEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if code, _, errText := once(t, "manual", dir); code != 0 {
		t.Fatal(errText)
	}
	files, err := filepath.Glob(dir + "/man*/*")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	man, err := exec.LookPath("man")
	if err != nil {
		t.Log("no man here: the pages' syntax isn't checked")
	}
	for _, file := range files {
		if man == "" {
			break
		}
		cmd := exec.Command(man, "--warnings", "-l", "-Tutf8", file)
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || complaints.Len() > 0 || len(out) < 300 {
			t.Errorf("%s: %v, %s, %d bytes", filepath.Base(file), err, complaints.String(), len(out))
		}
	}
	page := read(t, dir+"/man1/logforward-receive.1")
	_, help, _ := once(t, "receive", "--help")
	flags := 0
	for _, word := range strings.Fields(help) {
		name, _, _ := strings.Cut(strings.Trim(word, "[]"), "=")
		if strings.HasPrefix(name, "--") && name != "--help" && name != "--version" && name != "--json" {
			flags++
			if !strings.Contains(page, strings.ReplaceAll(name, "-", `\-`)) {
				t.Errorf("%s is missing", name)
			}
		}
	}
	if flags < 20 {
		t.Errorf("%d flags in %s", flags, help)
	}
	for _, want := range []string{"destination.NAME.url", `rotate_size`, `from 1ms to 30s`, `LOGFORWARD_ROTATE_SIZE`} {
		if !strings.Contains(read(t, dir+"/man5/logforward.cfg.5"), want) {
			t.Errorf("no %s in logforward.cfg(5)", want)
		}
	}
	if _, err := os.Stat(dir + "/man1/logforward-manual.1"); err == nil {
		t.Error("a page of a hidden command")
	}
}
