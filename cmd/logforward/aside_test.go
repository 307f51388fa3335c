package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logforward/internal/chunk"
	"logforward/internal/receive"
)

func TestAsideListsWhatAReceiverSetAside(t *testing.T) {
	state := t.TempDir()
	none := func(args ...string) {
		t.Helper()
		if code, out, errText := once(t, append([]string{"aside", "--state", state}, args...)...); code != exitOK || out != "nothing is set aside in "+state+"\n" || errText != "" {
			t.Errorf("%q: %d, %q, %q", args, code, out, errText)
		}
	}
	none()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(state, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	name := chunk.Token("web1.example.net") + "/" + chunk.Token("app") + "@2-19@9"
	write("cut/"+name, "prepared\n")
	write("aside/"+name+".json", `{"pieces":[{"epoch":2,"from":3,"to":7,"offset":0},{"epoch":2,"from":14,"to":19,"offset":4}],"back":[{"epoch":2,"from":3,"to":5,"file":"x","done":true},{"epoch":2,"from":14,"to":19,"file":"y"}]}`)
	code, out, errText := once(t, "aside", "--state", state)
	var rows []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	if code != exitOK || errText != "" || len(rows) != 3 || rows[0] != "LOG EPOCH FROM TO BYTES SINCE PUT BACK FILE" ||
		!strings.HasPrefix(rows[1], "web1.example.net/app 2 3 7 4 20") || !strings.HasSuffix(rows[1], "Z 2 "+filepath.Join(state, "cut", name)) || rows[2] != "2 14 19 5 0" {
		t.Errorf("%d, %q, %q", code, rows, errText)
	}
	none("web2.example.net/*")
	var all []receive.SetAside
	if code, out, errText := once(t, "--json", "aside", "web*/app", "--state", state); code != exitOK || json.Unmarshal([]byte(out), &all) != nil || len(all) != 1 || len(all[0].Back) != 2 {
		t.Errorf("%d, %s, %q", code, out, errText)
	}
	if code, out, errText := once(t, "--json", "aside", "none/none", "--state", state); code != exitOK || out != "[]\n" {
		t.Errorf("%d, %q, %q", code, out, errText)
	}
	// One that can't be read doesn't hide the others.
	write("cut/web1/odd", "")
	if code, out, errText := once(t, "aside", "--state", state); code != exitFailure || !strings.Contains(out, "web1.example.net/app") || !strings.Contains(errText, "cut/web1/odd") {
		t.Errorf("%d, %q, %q", code, out, errText)
	}
	if code, _, errText := once(t, "aside", "--state", filepath.Join(state, "none")); code != exitFailure || !strings.Contains(errText, "--state") {
		t.Errorf("%d, %q", code, errText)
	}
	if code, _, errText := once(t, "aside", "web1", "--state", state); code != exitUsage || !strings.Contains(errText, "IDENTITY/LOG") {
		t.Errorf("%d, %q", code, errText)
	}
}
