package settings

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"logforward/internal/quantity"
)

var update = flag.Bool("update", false, "write what is generated")

// The Puppet module's types accept, and tell of, what the settings say.
func TestPuppetTypesAreUpToDate(t *testing.T) {
	for name, want := range Puppet() {
		file := filepath.Join("../../puppet/types", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s differs from the settings: run make docs", file)
		}
	}
}

// What a pattern of the types takes for a number of bytes, a rate or a duration is what the program takes, so that no definition or setting
// gets past Puppet which the daemon refuses, and none is refused that it takes.
func TestPuppetReadsQuantitiesAsTheProgramDoes(t *testing.T) {
	pattern := func(s Setting) *regexp.Regexp {
		m := regexp.MustCompile(`Pattern\[/(.*?)/\]`).FindStringSubmatch(s.puppet())
		return regexp.MustCompile(strings.ReplaceAll(strings.ReplaceAll(m[1], `\/`, "/"), `\0`, `\x00`))
	}
	definition, err := os.ReadFile("../../puppet/types/rate.pp")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`Pattern\[/(.*?)/\]`).FindSubmatch(definition)
	ofDefinition := regexp.MustCompile(strings.ReplaceAll(string(m[1]), `\/`, "/"))
	size, rate, duration := pattern(Setting{Type: Bytes}), pattern(Setting{Type: Rate}), pattern(Setting{Type: Duration})
	units := []string{"", "b", "B", "k", "K", "kB", "KB", "Kb", "ki", "Ki", "KiB", "kib", "KIB", "M", "m", "MiB", "mib", "Mi", "g", "GB", "GiB", "t", "TiB", "tb", "P", "PiB", "E", "i", "iB", "x"}
	for _, number := range []string{"", "0", "1", "5", "1.5", ".5", "1.", "1.5.2", "-1", "+1", "1e3"} {
		for _, unit := range units {
			for _, between := range []string{"", " ", "  ", "\t"} {
				for _, end := range []string{"", "/s", " /s", "/", "s"} {
					text := number + between + unit + end
					_, bad := quantity.Bytes(text)
					if got := size.MatchString(text); got != (bad == nil) {
						t.Errorf("size %q: Puppet takes it: %v, the program: %v", text, got, bad)
					}
					_, bad = quantity.Rate(text)
					if got := rate.MatchString(text); got != (bad == nil) {
						t.Errorf("rate %q: Puppet takes it: %v, the program: %v", text, got, bad)
					}
					if got := ofDefinition.MatchString(text); got != (bad == nil) {
						t.Errorf("rate %q of a definition: Puppet takes it: %v, the program: %v", text, got, bad)
					}
				}
			}
		}
		for _, unit := range []string{"", "ms", "s", "m", "h", "d", "w", "M", "y", " s", "m1s", "h30m", "h30"} {
			text := number + unit
			_, bad := quantity.Duration(text)
			if got := duration.MatchString(text); got != (bad == nil) {
				t.Errorf("duration %q: Puppet takes it: %v, the program: %v", text, got, bad)
			}
		}
	}
	if !ofDefinition.MatchString("unlimited") {
		t.Error("a definition's rate can't be unlimited")
	}
}

func TestDeprecatedSettingIsToldWithItsSuccessor(t *testing.T) {
	v := &Values{command: Receive, values: map[string]value{}, destinations: map[string]map[string]value{}}
	old := Setting{Name: "old_age", Type: Duration, Help: "How old.", Commands: []string{Receive}, Deprecated: "use retain_age"}
	if err := v.set([]Setting{old}, given{"old_age", "1d", "x.cfg:3"}); err != nil {
		t.Fatal(err)
	}
	if len(v.Warnings) != 1 || v.Warnings[0] != "x.cfg:3: old_age is deprecated: use retain_age" {
		t.Errorf("warnings %q", v.Warnings)
	}
	if got := old.meaning(); got != "Deprecated: use retain_age. How old." {
		t.Errorf("meaning %q", got)
	}
}

func TestDescriptionTellsHowToSet(t *testing.T) {
	v, err := Load(Forward, write(t, "destination.dc-1.url = nats://x\ndestination.dc-1.password = hunter2\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]Description{}
	for _, d := range Describe(v, nil) {
		by[d.Name] = d
	}
	if d := by["chunk_size"]; d.Flag != "--chunk-size" || d.Environment != "LOGFORWARD_CHUNK_SIZE" || d.Accepts != "a size such as 64MiB, 1GB or 4096, from 4.0 KiB to 8.0 MiB" || d.Where != "default" {
		t.Errorf("%+v", d)
	}
	d := by["destination.dc-1.password"]
	if d.Flag != "--destination dc-1.password=…" || d.Environment != "LOGFORWARD_DESTINATION_DC_1_PASSWORD" || !d.Secret || d.Value != masked || d.Where == "" {
		t.Errorf("%+v", d)
	}
	// Each variable does what it says.
	again, err := Load(Forward, write(t, "destination.dc-1.url = nats://x\n"), []string{d.Environment + "=hunter3", by["chunk_size"].Environment + "=64KiB"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.Destinations()["dc-1"].Password != "hunter3" || again.Number("chunk_size") != 64<<10 {
		t.Errorf("%+v", again)
	}
}
