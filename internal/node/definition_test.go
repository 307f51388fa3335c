package node

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"logforward/internal/tail"
)

func TestDefinition(t *testing.T) {
	d, err := ParseDefinition("x.yaml", []byte(`# who reads this
log: nginx-access
path: /var/log/nginx/access.log     # a glob makes one log per file
destination: central
start: beginning
rate: 5MiB/s
`))
	if err != nil {
		t.Fatal(err)
	}
	if d.Log != "nginx-access" || d.Path != "/var/log/nginx/access.log" || d.Destination != "central" || d.Start != tail.StartBeginning || d.Rate == nil || *d.Rate != 5<<20 {
		t.Errorf("%+v", d)
	}
	d, err = ParseDefinition("x.yaml", []byte("---\nlog: 2024\npath: \"/var/log/{a,b}.log\"\nrate: 1048576\n"))
	if err != nil || d.Log != "2024" || d.Start != tail.StartEnd || *d.Rate != 1<<20 || d.Path != "/var/log/{a,b}.log" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDefinitionFaultsNameFileLineAndField(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown field", "log: a\npath: /var/log/a\nurl: nats://evil\n", `x.yaml:3: "url": unknown field; known: destination, log, path, rate, start`},
		{"missing path", "log: a\n", "x.yaml:1: path: is missing"},
		{"missing log", "\n\npath: /var/log/a\n", "x.yaml:3: log: is missing"},
		{"both faults are told", "log: a/b\nstart: middle\n", "x.yaml:2: start: "},
		{"wrong type", "log: a\npath: [/var/log/a]\n", "x.yaml:2: path: want a text, found a sequence"},
		{"wrong type bool", "log: true\npath: /var/log/a\n", "x.yaml:1: log: want a text, found a bool"},
		{"wrong type null", "log:\npath: /var/log/a\n", "x.yaml:1: log: want a text, found a null"},
		{"twice", "log: a\npath: /var/log/a\nlog: b\n", "x.yaml:3: "},
		{"bad rate", "log: a\npath: /var/log/a\nrate: fast\n", "x.yaml:3: rate: "},
		{"relative", "log: a\npath: a.log\n", `x.yaml:2: path: `},
		{"dots", "log: a\npath: /var/log/../../etc/shadow\n", `do you mean "/etc/shadow"`},
		{"control character", "log: \"a\\eb\"\npath: /var/log/a\n", "x.yaml:1: log: "},
		{"url as destination", "log: a\npath: /var/log/a\ndestination: nats://h:4222\n", "x.yaml:3: destination"},
		{"syntax", "log: a\npath: \"/var\n", "x.yaml:2: "},
		{"list", "- log: a\n", "x.yaml:1: want"},
		{"text", "hello", "x.yaml:1: want"},
		{"empty", "", "x.yaml: the file is empty"},
		{"comment only", "# nothing\n", "x.yaml: the file is empty"},
		{"two documents", "log: a\npath: /a\n---\nlog: b\npath: /b\n", "x.yaml:4: a second document"},
		{"too big", strings.Repeat("#", MaxDefinition+1), "at most 65536"},
		{"damaged", "log: a\x00\n", "NUL at byte 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := ParseDefinition("x.yaml", []byte(c.text))
			if err == nil {
				t.Fatalf("passed as %+v", d)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q; want %q", err, c.want)
			}
		})
	}
}

func FuzzDefinition(f *testing.F) {
	for _, s := range []string{"log: a\npath: /var/log/a\nrate: 5MiB/s\n", "&a [*a]", "log: &x a\npath: *x\n", "? a\n: b", "log: |\n  a\npath: >\n  /b", "{log: a, path: /a}", "<<: {log: a}", "- - -", "\t", "!!binary x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDefinition("f", b)
		if err != nil {
			return
		}
		if d.Log == "" || !strings.HasPrefix(d.Path, "/") || strings.Contains(d.Path+"/", "/../") {
			t.Errorf("passed: %+v", d)
		}
	})
}

// A definition may be a symbolic link to a file that isn't anybody's to read.
func TestASyntaxErrorQuotesNothing(t *testing.T) {
	for _, content := range []string{"a: *sesame\n", "log: a\nlog: \"sesame\n", "a: b\n sesame: $6$sesame: x\n", "sesame\nb: c\n", "a: [sesame\n", "a: !!int sesame\nb: %sesame\n", "@sesame\n", "a: |sesame\n b\n"} {
		if _, err := ParseDefinition("a.yaml", []byte(content)); err == nil || strings.Contains(err.Error(), "$6$") || strings.Contains(err.Error(), "sesame") && !strings.Contains(err.Error(), "unknown field") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// Whoever may ask for status sees a broken definition's errors, on a terminal and in the log of their tools.
func TestWhatErrorsQuoteIsBoundedAndHarmless(t *testing.T) {
	long := strings.Repeat("a\u202e\x1b]0;x\a/", 2000)
	for _, value := range []string{long, "/" + long, "//" + long, " ", ". ", "..", " " + strings.Repeat("é", 60), "/\xff\xfe", "\x1b[2J", "nats://user:sesame@broker:4222", "user:sesame@broker", "/a/../" + strings.Repeat("b", 3000), "/" + strings.Repeat("[", 3000)} {
		for _, field := range fieldNames() {
			content := fmt.Sprintf("%s: %q\n", field, value)
			_, err := ParseDefinition("a.yaml", []byte(content))
			if err == nil {
				t.Errorf("%.80q passed", content)
				continue
			}
			if field == "destination" && strings.Contains(err.Error(), "sesame") {
				t.Error(err)
			}
			for _, said := range strings.Split(err.Error(), "\n") {
				if i := strings.IndexFunc(said, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 || len(said) > 1000 {
					t.Errorf("%s: %d bytes, with %d: %.100q", field, len(said), i, said)
				}
			}
		}
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "b%d: c\n", i)
	}
	_, err := ParseDefinition("a.yaml", []byte(many.String()))
	if err == nil || strings.Count(err.Error(), "\n") != maxFaults || !strings.HasSuffix(err.Error(), "and 4982 more faults") {
		t.Errorf("%.3000v", err)
	}
}
