package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/control"
)

// What commands really print has the keys that the page tells of, of these types, and each that it promises.
func TestJSONIsAsDocumented(t *testing.T) {
	t.Parallel()
	s := staging(t)
	for _, line := range []string{"destination.other.url = " + s.url, "destination.central.seal = true", "ensure = " + s.dir + "/ensure", "ensure_unit ="} {
		s.set(line)
	}
	for _, name := range []string{"a", "b"} {
		s.define(name, "log: "+name+"\npath: LOGS/"+name+".log\nstart: beginning\ndestination: central\n")
	}
	r := newReader(t)
	asks := func(code int, command string, more ...string) {
		t.Helper()
		r.once(code, command, append(more, "--config", s.config)...)
	}

	s.broker = start(t, "broker", "--json", "--listen", strings.TrimPrefix(s.url, "nats://"), "--store", s.dir+"/broker")
	s.broker.says("url")
	r.reads("broker", s.broker.out.String())
	url := []string{"--url", s.url}
	r.once(exitOK, "setup", "--url", s.url, "--partitions", "2")
	r.once(exitFailure, "setup", "--url", s.url, "--partitions", "2", "--prefix", "others", "--check")
	s.receiver = start(t, "receive", "--url", s.url, "--output", s.output, "--state", s.dir+"/receive", "--receiver", "r1", "--rotate-every", "0")
	s.startNode()
	s.arrives("a", "a\n")
	tapped := start(t, append([]string{"tap", "*/*", "--json"}, url...)...)
	eventually(t, "the tap listens", func() bool {
		s.append("b.log", "b\n")
		return tapped.out.String() != ""
	})

	// A node, with an operator's word, a history, a glob with a file that isn't followed, a broken definition, and a gap.
	s.append("glob/1.log", "one\n")
	if err := os.Symlink("/etc/hostname", s.logs+"/glob/2.log"); err != nil {
		t.Fatal(err)
	}
	asks(exitOK, "start", "glob", s.logs+"/glob/*.log", "--for", "1h", "--rate", "1MiB/s", "--destination", "central", "--reason", "to see")
	asks(exitOK, "redirect", "b", "other")
	asks(exitOK, "pause", "a", "--reason", "to see")
	s.append("a.log", "lost\n")
	eventually(t, "the node sees what is to be lost", func() bool {
		var status control.StatusReply
		s.ask(&status, "status", "a")
		return status.Logs[0].LagBytes == 5
	})
	if err := os.Truncate(s.logs+"/a.log", 0); err != nil {
		t.Fatal(err)
	}
	s.append("a.log", "2\n")
	asks(exitOK, "resume", "a")
	eventually(t, "the gap is committed", func() bool {
		_, out, _ := once(t, "ledger", "n1.example.net/a", "--output", s.output, "--json")
		return strings.Contains(out, `"gap"`)
	})
	asks(exitOK, "pause", "--all", "--for", "1h", "--reason", "to see")
	s.define("broken", "log: [\n")
	asks(exitOK, "stop", "a", "--for", "1h")
	eventually(t, "the broken definition is a problem", func() bool {
		var status control.StatusReply
		s.ask(&status, "status")
		return len(status.Problems) > 0
	})
	asks(exitOK, "status")
	asks(exitOK, "status", "a", "--history")
	asks(exitOK, "list")
	asks(1, "check")
	asks(exitOK, "check --metrics")
	asks(exitOK, "ensure")
	asks(exitOK, "ensure", "--order", "resume")
	asks(exitConfig, "validate")
	asks(exitOK, "config")
	asks(exitOK, "seal-key")
	if err := os.Remove(s.dir + "/forwarders.d/broken.yaml"); err != nil {
		t.Fatal(err)
	}

	// A staged set.
	asks(exitOK, "plan")
	s.stage("forwarders.d/a.yaml", "log: a\npath: LOGS/a.log\nrate: 1MiB/s\ndestination: central\n")
	write(t, s.dir+"/staged/logforward.cfg", read(t, s.config)+"rate = 8MiB/s\n")
	asks(exitOK, "plan")
	asks(exitOK, "apply")
	asks(exitOK, "rollback")
	s.stage("forwarders.d/a.yaml", "log: [\n")
	asks(exitConfig, "plan")

	// The centre.
	eventually(t, "the tap has seen the gap", func() bool { return strings.Contains(tapped.out.String(), `"gap"`) })
	tapped.signal(os.Interrupt)
	if code := tapped.ended(time.Minute); code != exitOK {
		t.Errorf("tap: %d", code)
	}
	r.reads("tap", tapped.out.String())
	r.once(exitOK, "ledger", "n1.example.net/a", "--output", s.output)
	r.once(exitOK, "locate", "n1.example.net/a", "--url", s.url, "--output", s.output)
	r.once(exitOK, "verify", "--output", s.output)
	_, keys, _ := once(t, "seal-key", "--config", s.config)
	write(t, s.dir+"/keys", keys)
	r.once(exitOK, "verify", append(url, "--output", s.output, "--record", "--seal-keys", s.dir+"/keys")...)
	if err := os.WriteFile(s.output+"/n1.example.net/b.log", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.once(exitFailure, "verify", append(url, "--output", s.output, "--record")...)
	name := chunk.Token("web1.example.net") + "/" + chunk.Token("app") + "@2-19@9"
	write(t, s.dir+"/old/cut/"+name, "prepared\n")
	write(t, s.dir+"/old/aside/"+name+".json", `{"pieces":[{"epoch":2,"from":3,"to":7,"offset":0}],"back":[{"epoch":2,"from":3,"to":5,"file":"x","done":true}]}`)
	r.once(exitOK, "aside", "--state", s.dir+"/old")
	r.once(exitOK, "aside", "--state", s.dir+"/old", "none/none")
	write(t, s.dir+"/old/cut/"+chunk.Token("web1.example.net")+"/"+chunk.Token("more")+"@2-19@9", "prepared\n")
	r.once(exitOK, "aside keep", "--state", s.dir+"/old", "web1.example.net/app", "--reason", "to see")
	r.once(exitOK, "aside drop", "--state", s.dir+"/old", "web1.example.net/more", "--reason", "to see")
	r.once(exitOK, "aside", "--state", s.dir+"/old")
	start(t, "receive", "--url", s.url, "--output", s.output+"2", "--state", s.dir+"/receive2", "--receiver", "r2", "--rotate-every", "0")
	eventually(t, "both receivers have a partition", func() bool {
		_, out, _ := once(t, append([]string{"receivers"}, url...)...)
		return strings.Contains(out, "r2")
	})
	r.once(exitOK, "receivers", url...)
	for _, undo := range []bool{false, true} {
		args := append([]string{"r2"}, url...)
		if undo {
			args = append(args, "--undo")
		}
		if drained := r.once(exitOK, "drain", args...).(map[string]any)["drained"] == true; drained == undo {
			t.Errorf("drain %v says that it is drained: %v", args, drained)
		}
	}
	r.once(exitOK, "receivers --forget", append([]string{"r9"}, url...)...)
	r.once(exitOK, "fleet status", url...)
	r.once(exitOK, "fleet pause", append(url, "--for", "1h", "--reason", "to see", "--match", "n*")...)
	s.node.signal(term())
	s.node.ended(time.Minute)
	r.once(exitUnconfirmed, "fleet resume", append(url, "--wait", "1s")...)

	// What needs none of them.
	dir := files(t, map[string]string{
		"few/a.rego":      "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\nallow if input.action == \"status\"\n\nallow if input.action == \"list\"\n",
		"few/a_test.rego": "package io.choria.mcorpc.authpolicy_test\n\nimport rego.v1\n\nimport data.io.choria.mcorpc.authpolicy\n\ntest_status if authpolicy.allow with input as {\"action\": \"status\"}\n\ntest_wrong if authpolicy.allow with input as {\"action\": \"stop\"}\n",
	})
	table := dir + "/operators.yaml"
	write(t, dir+"/new.yaml", strings.Replace(read(t, table), "for: 4h", "for: 8h", 1))
	r.once(exitOK, "policy render", table)
	r.once(exitOK, "policy render", table, "--output", dir+"/out.rego")
	for _, policy := range []string{table, dir + "/few/a.rego"} {
		r.once(exitRefused, "policy explain", "--policy", policy, "--caller", "up=oncall-eve", "--action", "pause", "log=app", "for=6h")
		r.once(exitOK, "policy explain", "--policy", policy, "--caller", "up=oncall-eve", "--action", "status")
	}
	r.once(exitOK, "policy check", table)
	r.once(exitFailure, "policy test", dir+"/few")
	r.once(exitFailure, "policy diff", table, dir+"/new.yaml")
	r.once(exitOK, "policy diff", table, table)
	r.once(exitOK, "version")
	r.once(exitOK, "run", s.logs+"/b.log", "--output", s.dir+"/run", "--seconds", "1")
	r.fails(exitUsage, "status", "--nope")
	r.fails(exitUnreachable, "status", "--socket", s.dir+"/none.sock")
	r.fails(exitRefused, "drain", append([]string{"r9"}, url...)...)
	r.all()
}

// reader reads what commands print, by what the page says of it.
type reader struct {
	t         *testing.T
	documents map[string]map[string]key // of a command, by path; "" is the document's own
	seen      map[string]bool           // commands whose document was read
}

func newReader(t *testing.T) *reader {
	r := &reader{t: t, documents: map[string]map[string]key{}, seen: map[string]bool{}}
	for _, d := range documents() {
		byPath := map[string]key{}
		for _, k := range jsonKeysOf(t, d) {
			byPath[k.path] = k
		}
		for _, c := range d.commands {
			r.documents[c] = byPath
		}
	}
	return r
}

const failing = "any command that fails"

// once runs a command, and gives what it printed.
func (r *reader) once(want int, command string, args ...string) any {
	r.t.Helper()
	return r.run(want, command, command, args)
}

// fails runs one that has an error to print instead.
func (r *reader) fails(want int, command string, args ...string) {
	r.t.Helper()
	r.run(want, failing, command, args)
}

func (r *reader) run(want int, document, command string, args []string) any {
	r.t.Helper()
	args = slices.Concat(strings.Fields(command), args, []string{"--json"})
	code, out, errText := once(r.t, args...)
	if code != want {
		r.t.Errorf("%v: %d, want %d: %s%s", args, code, want, out, errText)
	}
	return r.reads(document, out)
}

// reads takes one document, or those of several lines, and gives the last.
func (r *reader) reads(command, text string) (v any) {
	r.t.Helper()
	known := r.documents[command]
	if known == nil {
		r.t.Fatalf("%s isn't documented", command)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	for n := 0; ; n++ {
		v = nil
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil || n > 0 && command != "tap" {
			r.t.Errorf("%s: %v: document %d of %q", command, err, n, text)
			break
		}
		for _, wrong := range complaints(known, v) {
			r.t.Errorf("%s: %s in %s", command, wrong, text)
		}
		r.seen[command] = true
		if command != "tap" {
			return v
		}
	}
	return v
}

// complaints are what a document has otherwise than it is documented.
func complaints(known map[string]key, v any) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	var object func(path string, m map[string]any)
	var value func(path, kind string, v any)
	value = func(path, kind string, v any) {
		ok := false
		switch x := v.(type) {
		case string:
			switch kind {
			case "string":
				ok = true
			case "time":
				_, err := time.Parse(time.RFC3339, x)
				ok = err == nil
			case "base64":
				_, err := base64.StdEncoding.DecodeString(x)
				ok = err == nil
			}
		case bool:
			ok = kind == "boolean"
		case json.Number:
			ok = kind == "number" || kind == "integer" && !strings.ContainsAny(x.String(), ".eE")
		case []any:
			var of string
			if of, ok = strings.CutPrefix(kind, "list of "); ok {
				for _, e := range x {
					value(path+"[]", strings.TrimSuffix(of, "s"), e)
				}
			}
		case map[string]any:
			if ok = kind == "object"; ok {
				object(path, x)
			}
		}
		if !ok {
			say("%s is %v, and no %s", path, v, kind)
		}
	}
	object = func(path string, m map[string]any) {
		below := ""
		if path != "" {
			below = path + "."
		}
		for name, v := range m {
			k, ok := known[below+name]
			if !ok {
				k, ok = known[below+"NAME"]
			}
			if !ok {
				say("%s isn't documented", below+name)
				continue
			}
			value(below+name, k.kind, v)
		}
		for p, k := range known {
			name, under := strings.CutPrefix(p, below)
			if _, has := m[name]; under && !k.optional && !strings.ContainsAny(name, ".[") && !has {
				say("%s is missing", p)
			}
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(p string) bool { return strings.HasPrefix(p, "[]") }) {
		value("", "list of objects", v)
	} else {
		value("", "object", v)
	}
	return list
}

// all tells whether each document was read, and each command is on the page.
func (r *reader) all() {
	r.t.Helper()
	for command := range r.documents {
		if !r.seen[command] {
			r.t.Errorf("%s was never run", command)
		}
	}
	dir := r.t.TempDir()
	if code, _, errText := once(r.t, "manual", dir); code != exitOK {
		r.t.Fatal(errText)
	}
	pages, err := filepath.Glob(dir + "/man1/logforward-*.1")
	if err != nil || len(pages) < 20 {
		r.t.Fatalf("%v, %d pages", err, len(pages))
	}
	for _, page := range pages {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(page), "logforward-"), ".1")
		command := strings.ReplaceAll(name, "-", " ")
		if r.documents[command] == nil && r.documents[name] == nil && !slices.Contains(without, command) {
			r.t.Errorf("%s is neither in documents nor in without", command)
		}
	}
}

// A key that isn't documented, one that is missing, another type and a list that is null are each seen.
func TestComplaintsAboutJSON(t *testing.T) {
	t.Parallel()
	known := newReader(t).documents["list"]
	for text, want := range map[string]string{
		`{"forwarders":[],"problems":[]}`:                                   "",
		`{"forwarders":[],"problems":[],"more":1}`:                          "more isn't documented",
		`{"forwarders":[]}`:                                                 "problems is missing",
		`{"forwarders":null,"problems":[]}`:                                 "forwarders is <nil>, and no list of objects",
		`{"forwarders":[],"problems":[{"where":1,"problem":"x"}]}`:          "problems[].where is 1, and no string",
		`{"forwarders":[],"problems":[{"problem":"x","where":"y","z":{}}]}`: "problems[].z isn't documented",
		`{"forwarders":[],"problems":[{"where":"y"}]}`:                      "problems[].problem is missing",
		`[]`: " is [], and no object",
	} {
		var v any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(complaints(known, v), "; "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
