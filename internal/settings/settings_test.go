package settings

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/choria-io/fisk"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "logforward.cfg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryDefaultIsValidAndEveryNameIsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if _, err := s.parse(s.Default); err != nil && s.Default != "" {
			t.Errorf("%s: %v", s.Name, err)
		}
		if s.Help == "" || !strings.HasSuffix(s.Help, ".") || len(s.Commands) == 0 {
			t.Errorf("%s: help %q, commands %v", s.Name, s.Help, s.Commands)
		}
		for _, c := range s.Commands {
			id := c + " " + s.Name
			if s.Destination {
				id += " destination"
			}
			if seen[id] {
				t.Errorf("%s stands twice", id)
			}
			seen[id] = true
		}
	}
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, "# a comment\r\n\nrotate_size=1MiB\ncompress = gzip\nretain_count = 3\nurl = nats://a, nats://b\nidentity = another command's\n")
	app := fisk.New("x", "")
	cmd := app.Command("receive", "")
	flags := Register(cmd, Receive)
	if _, err := app.Parse([]string{"receive", "--retain-count", "7"}); err != nil {
		t.Fatal(err)
	}
	v, err := Load(Receive, file, []string{"LOGFORWARD_COMPRESS=none", "LOGFORWARD_RETAIN_COUNT=5", "LOGFORWARD_SEED=1", "HOME=/"}, flags)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"rotate_size": file + ":3", "compress": "environment LOGFORWARD_COMPRESS", "retain_count": "flag --retain-count", "file_mode": "default"} {
		if got := v.Where(name); got != want {
			t.Errorf("%s is from %q, want %q", name, got, want)
		}
	}
	if v.Number("rotate_size") != 1<<20 || v.Text("compress") != "none" || v.Number("retain_count") != 7 || v.Number("file_mode") != 0o640 || v.Duration("commit_interval") != time.Second {
		t.Errorf("values %+v", v.values)
	}
	if got := v.Connection(); len(got.URL) != 2 || got.URL[1] != "nats://b" || got.Prefix != "logs" {
		t.Errorf("connection %+v", got)
	}
	if v.Text("identity") != "" || v.IsSet("file_mode") || !v.IsSet("compress") {
		t.Error("another command's setting, or IsSet")
	}
}

func TestDestinations(t *testing.T) {
	file := write(t, "destination.central.url = nats://one\ndestination.central.password = hunter2\ndestination.audit.url = tls://two\ndestination.audit.commit = stored\n")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	app := fisk.New("x", "")
	flags := Register(app.Command("forward", ""), Forward)
	if _, err := app.Parse([]string{"forward", "--destination", "audit.compression=zstd"}); err != nil {
		t.Fatal(err)
	}
	v, err := Load(Forward, file, []string{"LOGFORWARD_DESTINATION_CENTRAL_SERVER_NAME=logs.example.net"}, flags)
	if err != nil {
		t.Fatal(err)
	}
	d := v.Destinations()
	if len(d) != 2 || d["central"].ServerName != "logs.example.net" || d["central"].Commit != "confirmed" || d["audit"].Commit != "stored" || d["audit"].Compression != "zstd" || d["audit"].Prefix != "logs" {
		t.Errorf("destinations %+v", d)
	}
	if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "destination.central.password is secret") {
		t.Errorf("warnings %q", v.Warnings)
	}
	for _, x := range Describe(v, regexp.MustCompile("password")) {
		if strings.Contains(x.Value, "hunter2") {
			t.Errorf("a secret is shown: %+v", x)
		}
	}
}

func TestDestinationByChoriaAloneIsEnough(t *testing.T) {
	v, err := Load(Forward, write(t, "destination.central.choria = /etc/choria/server.conf\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := v.Destinations()["central"]; d.Choria != "/etc/choria/server.conf" || len(d.URL) != 0 {
		t.Errorf("destination %+v", d)
	}
}

func TestErrorsSayWhatWhereAndWhatToDo(t *testing.T) {
	for _, test := range []struct {
		name, command, text string
		want                []string
	}{
		{"unknown", Receive, "rotate_sise = 1", []string{":1", `"rotate_sise" is no setting; did you mean rotate_size?`}},
		{"unknown, nothing like it", Receive, "flux_capacitor = 1", []string{"logforward config lists them"}},
		{"unknown of a destination", Forward, "destination.a.url = x\ndestination.a.pasword = x", []string{":2", "did you mean destination.a.password?"}},
		{"bytes", Receive, "\nrotate_size = many", []string{":2", `rotate_size = "many"`, "for example 64MiB"}},
		{"duration", Receive, "commit_interval = 5 parsecs", []string{"commit_interval", "500ms, 90m, 2h or 1d"}},
		{"range", Receive, "commit_interval = 2h", []string{"from 1ms to 30s"}},
		{"one of", Receive, "compress = rar", []string{"none of none, gzip, zstd"}},
		{"no assignment", Receive, "hello", []string{`"hello"… is no key = value`}},
		{"globs", Forward, "allowed_paths = var/log/**", []string{"no absolute pattern"}},
		{"mode", Receive, "file_mode = 999", []string{"octal"}},
		{"secret", Setup, "password = \x00", []string{"password", "********"}},
		{"destination without url", Forward, "destination.x.user = me", []string{"neither destination.x.url nor destination.x.choria is set"}},
		{"scheme", Forward, "destination.x.url = nats://one, http://two", []string{":1", `destination.x.url = "nats://one, http://two": "http" is none of nats, tls, ws and wss`}},
		{"url without host", Receive, "url = nats://:4222", []string{"names no host"}},
		{"bad name", Forward, "destination.a b.url = x", []string{"letters, digits"}},
		{"all of them", Receive, "a = 1\nb = 2\nretain_count = -1", []string{`"a"`, `"b"`, "retain_count"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(test.command, write(t, test.text), nil, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "neither") && !strings.Contains(test.name, "without url") {
				t.Errorf("%q says that something is missing which is wrong", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q\nlacks %q", err, want)
				}
			}
		})
	}
	if _, err := Load(Receive, "/nonexistent/x.cfg", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load(Receive, "", nil, nil); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func TestBytesAndRates(t *testing.T) {
	bytes, rate := &Setting{Name: "x", Type: Bytes}, &Setting{Name: "x", Type: Rate}
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "64MiB": 64 << 20, "64M": 64 << 20, "1GB": 1e9, "1 kB": 1000, "5k": 5120,
		"1.5KiB": 1536, "9007199254740993": 9007199254740993, "8191T": 8191 << 40} {
		for _, s := range []*Setting{bytes, rate} {
			if got, err := s.parse(text); err != nil || got != want {
				t.Errorf("%s %s: %v, %v", s.Type, text, got, err)
			}
		}
	}
	for text, want := range map[string]int64{"5MiB/s": 5 << 20, "unlimited": 0} {
		if got, err := rate.parse(text); err != nil || got != want {
			t.Errorf("rate %s: %v, %v", text, got, err)
		}
	}
	// A rate of half a byte is not "no limit".
	for _, text := range []string{"", "-1", "0.5", "MiB", "1e3", "1,000", "1.2.3", "5 parsecs", "99999999T", "20000000T", "99999999999999999999", "9999999999.5G"} {
		for _, s := range []*Setting{bytes, rate} {
			if got, err := s.parse(text); err == nil {
				t.Errorf("%s %q gave %v", s.Type, text, got)
			}
		}
	}
}

func TestPatternsWithBracesAreOne(t *testing.T) {
	v, err := Load(Forward, write(t, "allowed_paths = /var/log/{a,b}.log, /srv/** /opt/{x,{y,z}}/*.log\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.List("allowed_paths"); !slices.Equal(got, []string{"/var/log/{a,b}.log", "/srv/**", "/opt/{x,{y,z}}/*.log"}) {
		t.Errorf("patterns %q", got)
	}
}

func TestFlagWithoutValue(t *testing.T) {
	for _, test := range []struct {
		args []string
		want bool
	}{{nil, false}, {[]string{"--dry-run"}, true}} {
		app := fisk.New("x", "")
		flags := Register(app.Command("setup", ""), Setup)
		if _, err := app.Parse(append([]string{"setup"}, test.args...)); err != nil {
			t.Fatalf("%q: %v", test.args, err)
		}
		v, err := Load(Setup, write(t, ""), nil, flags)
		if err != nil {
			t.Fatal(err)
		}
		if v.Bool("dry_run") != test.want || v.IsSet("dry_run") != (test.args != nil) {
			t.Errorf("%q: %v, set %v", test.args, v.Bool("dry_run"), v.IsSet("dry_run"))
		}
	}
}

func TestSecretsAreNowhereShown(t *testing.T) {
	file := write(t, "destination.a.url = nats://bob:hunter2@hunter2@one, tls://hunter2@two:4222 x:hunter2@three\ndestination.a.password = hunter2\ndestination.a.token=hunter2\n")
	v, err := Load(Forward, file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Describe(v, nil) {
		if strings.Contains(d.Value, "hunter2") {
			t.Errorf("%s shows %s", d.Name, d.Value)
		}
		if d.Name == "destination.a.url" && d.Value != "nats://********@one, tls://********@two:4222, ********@three" {
			t.Errorf("url shows %s", d.Value)
		}
	}
	if v.Destinations()["a"].URL[0] != "nats://bob:hunter2@hunter2@one" {
		t.Error("the URL itself was changed")
	}
	for _, text := range []string{"password hunter2", "destination.a.password: hunter2", "destination.a.url = x:hunter2@th:ree", "destination.a.url = bad://x:hunter2@three", "destination.a.url = nats://x:hunter2@"} {
		if _, err := Load(Forward, write(t, text), nil, nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestEnvironmentNamesTheFilesDestination(t *testing.T) {
	v, err := Load(Forward, write(t, "destination.DC-1.url = nats://x\n"),
		[]string{"LOGFORWARD_DESTINATION_DC_1_NKEY=/seed", "LOGFORWARD_DESTINATION_NEW_ONE_URL=nats://y", "LOGFORWARD_RATE="}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := v.Destinations(); len(d) != 2 || d["DC-1"].NKey != "/seed" || len(d["new_one"].URL) != 1 {
		t.Errorf("destinations %+v", d)
	}
	if v.IsSet("rate") {
		t.Error("an empty variable counts")
	}
}

func TestProblemsAreInTheOrderOfTheFile(t *testing.T) {
	file := write(t, "\na = 1"+strings.Repeat("\n", 8)+"b = 1\n")
	_, err := Load(Receive, file, []string{"LOGFORWARD_COMPRESS=rar"}, nil)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 3 {
		t.Fatalf("problems: %v", err)
	}
	for i, want := range []string{file + ":2: ", file + ":10: ", "environment LOGFORWARD_COMPRESS: "} {
		if !strings.HasPrefix(problems[i].Error(), want) {
			t.Errorf("problem %d is %v, want %s", i, problems[i], want)
		}
	}
}

func TestHugeFileIsNotCutInSilence(t *testing.T) {
	fill := strings.Repeat(strings.Repeat("#", 99)+"\n", maxFile/100)
	if _, err := Load(Receive, write(t, fill+"\ncompress = gzip\n"), nil, nil); err != nil {
		t.Errorf("within the limit: %v", err)
	}
	_, err := Load(Receive, write(t, fill+fill+"compress = rar\n"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("beyond the limit: %v", err)
	}
}

// docs/settings.md says what the settings say.
func TestReferenceIsUpToDate(t *testing.T) {
	got, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Reference() {
		t.Error("docs/settings.md differs from the settings: run make docs")
	}
}

func FuzzFile(f *testing.F) {
	f.Add("rotate_size = 1MiB\n# x\ndestination.a.url=nats://x\n")
	f.Add("destination..=\n=\nfile_mode=0777\nrate = unlimited\nretain_age=1d")
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := parseFile(strings.NewReader(text), "f")
		v := &Values{command: Forward, values: map[string]value{}, destinations: map[string]map[string]value{}}
		all := All()
		for _, g := range list {
			_ = v.set(all, g)
		}
		v.Destinations()
		Describe(v, nil)
	})
}

func FuzzValue(f *testing.F) {
	for _, text := range []string{"1.5GiB", "5MiB/s", "unlimited", "1d12h", "0640", "yes", "/a/{b,c}/**, /d", "9223372036854775807", "nats://u:p@h"} {
		f.Add(text)
	}
	types := []Type{Text, Int, Bytes, Rate, Duration, Bool, Enum, Path, List, Globs, Mode}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range types {
			s := &Setting{Name: "x", Type: kind}
			parsed, err := s.parse(text)
			if err != nil {
				continue
			}
			switch n := parsed.(type) {
			case int64:
				if n < 0 {
					t.Errorf("%s %q gave %d", kind, text, n)
				}
			case time.Duration:
				if n < 0 {
					t.Errorf("%s %q gave %s", kind, text, n)
				}
			}
		}
		maskURLs(text)
	})
}
