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

// What is asked is left for the receiver, whole, and only of what is set aside.
func TestAsideIsDecided(t *testing.T) {
	state := t.TempDir()
	of := func(name string) string {
		t.Helper()
		path := filepath.Join(state, "cut", chunk.Token("web1.example.net"), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("\x1b[31mprepared\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	app, first, second := of("app@2-19@14"), of("db@2-14@14"), of("db@2-28@14")
	want := func(wantCode int, inOut, inErr string, args ...string) string {
		t.Helper()
		code, out, errText := once(t, append(append([]string{"aside"}, args...), "--state", state)...)
		if code != wantCode || !strings.Contains(out, inOut) || !strings.Contains(errText, inErr) {
			t.Errorf("%q: %d, %q, %q", args, code, out, errText)
		}
		return out
	}
	for _, what := range []string{"web1.example.net/app", app} {
		if out := want(exitOK, "", "", "show", what); out != "\x1b[31mprepared\n" {
			t.Errorf("shown %q", out)
		}
	}
	want(exitUsage, "", "more than one file", "show", "web1.example.net/db")
	want(exitUsage, "", "one FILE", "drop", "--reason", "x")
	want(exitUsage, "", "one FILE", "show", app, first)
	want(exitUsage, "", "--reason", "drop", app)
	want(exitUsage, "", "--reason", "show", app, "--reason", "x")
	want(exitUsage, "", "--reason", "--reason", "x")
	want(exitFailure, "", "isn't set aside", "show", "web1.example.net/none")
	want(exitFailure, "", "isn't set aside", "show", "/etc/passwd")
	want(exitFailure, "", "isn't set aside", "drop", state+"/receive.db", "--reason", "x")
	want(exitFailure, "", "can't be printed", "drop", app, "--reason", "a\nb")
	want(exitOK, "asked to keep "+app, "", "keep", "web1.example.net/app", "--reason", "reinstalled")
	want(exitFailure, "", "is asked already: to keep it, by local=", "drop", app, "--reason", "x")
	want(exitOK, "asked to drop "+second, "", "drop", second, "--reason", "another life")
	if out := want(exitOK, "asked to keep "+app+", by local=", ""); strings.Contains(out, "drop "+first) || !strings.Contains(out, ": another life") {
		t.Errorf("%s", out)
	}
	var all []receive.SetAside
	if code, out, errText := once(t, "--json", "aside", "--state", state); code != exitOK || json.Unmarshal([]byte(out), &all) != nil || len(all) != 3 || all[0].Asked == nil || all[0].Asked.Action != receive.AsideKeep || all[0].Asked.Reason != "reinstalled" {
		t.Errorf("%d, %s, %q", code, out, errText)
	}
}
