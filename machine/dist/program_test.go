package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The machine's program finds the one that is installed, past whatever else has its name, and says in JSON where there is none.
func TestMachineFindsTheProgram(t *testing.T) {
	script, err := filepath.Abs("../logforward/logforward")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"directory/logforward", "text", "program"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/text/logforward", []byte("nobody may run this\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/program/logforward", []byte("#!/bin/sh\necho this one: \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(path string) string {
		c := exec.Command("/bin/sh", script, "ensure", "--data")
		c.Dir, c.Env = filepath.Dir(script), []string{"PATH=" + path}
		out, err := c.Output()
		if err != nil {
			t.Errorf("with PATH=%s: %v %s", path, err, out)
		}
		return string(out)
	}
	others := dir + "/directory:" + dir + "/text:" + filepath.Dir(script)
	if out := run(others + ":" + dir + "/program:/usr/bin:/bin"); out != "this one: ensure --data\n" {
		t.Error(out)
	}
	for _, elsewhere := range []string{"/usr/bin/logforward", "/usr/local/bin/logforward", "/opt/logforward/bin/logforward"} {
		if _, err := os.Stat(elsewhere); err == nil {
			t.Skip("there is one on this machine: " + elsewhere)
		}
	}
	for _, path := range []string{others, others + `:/a"b`, others + `:/a\b`} {
		var data map[string]string
		if out := run(path + ":/usr/bin:/bin"); json.Unmarshal([]byte(out), &data) != nil || data["state"] != "failed" || !strings.Contains(data["reason"], "there is no program logforward in ") {
			t.Errorf("with PATH=%s: %s", path, out)
		}
	}
}
