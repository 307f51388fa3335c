package rollout

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bench is a node's files.
type bench struct {
	*testing.T
	dir, staged, former string
	now                 Set
}

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	b := &bench{T: t, dir: dir, staged: dir + "/staged", former: dir + "/former", now: Set{Settings: dir + "/etc/logforward.cfg", Definitions: dir + "/etc/forwarders.d", Policy: dir + "/etc/rego/logforward.rego"}}
	b.put("etc/logforward.cfg", "rate = 1")
	b.put("etc/forwarders.d/a.yaml", "log: a")
	b.put("etc/forwarders.d/README", "not a definition")
	return b
}

func (b *bench) put(name, text string) {
	b.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		b.Fatal(err)
	}
}

// want is what is in force, "name text" each; what isn't named mustn't be there.
func (b *bench) want(what string, lines ...string) {
	b.Helper()
	var have []string
	for _, name := range []string{"logforward.cfg", "forwarders.d/a.yaml", "forwarders.d/b.yaml", "rego/logforward.rego"} {
		if text, err := os.ReadFile(filepath.Join(b.dir, "etc", name)); err == nil {
			have = append(have, name+" "+string(text))
		}
	}
	if strings.Join(have, "\n") != strings.Join(lines, "\n") {
		b.Errorf("%s: have %q, want %q", what, have, lines)
	}
}

func (b *bench) stageAll() {
	b.put("staged/logforward.cfg", "rate = 2")
	b.put("staged/forwarders.d/b.yaml", "log: b")
	b.put("staged/logforward.rego", "package x")
	if err := os.Chmod(b.dir+"/staged/logforward.cfg", 0o600); err != nil {
		b.Fatal(err)
	}
}

func TestChangeAndBackAndForthAgain(t *testing.T) {
	b := newBench(t)
	b.stageAll()
	before := []string{"logforward.cfg rate = 1", "forwarders.d/a.yaml log: a"}
	after := []string{"logforward.cfg rate = 2", "forwarders.d/b.yaml log: b", "rego/logforward.rego package x"}
	if err := Change(b.staged, b.now, b.former); err != nil {
		t.Fatal(err)
	}
	b.want("changed", after...)
	if info, err := os.Stat(b.now.Settings); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Open(b.staged); !errors.Is(err, ErrNothing) {
		t.Errorf("still staged: %v", err)
	}
	for range 2 {
		if err := Change(b.former, b.now, b.former); err != nil {
			t.Fatal(err)
		}
		b.want("rolled back", before...)
		if err := Change(b.former, b.now, b.former); err != nil {
			t.Fatal(err)
		}
		b.want("rolled back the roll back", after...)
	}
	if _, err := os.Stat(b.now.Definitions + "/README"); err != nil {
		t.Errorf("what is no definition is gone: %v", err)
	}
}

func TestWhatIsNotStagedStays(t *testing.T) {
	b := newBench(t)
	b.put("staged/forwarders.d/b.yaml", "log: b")
	if err := Change(b.staged, b.now, b.former); err != nil {
		t.Fatal(err)
	}
	b.want("changed", "logforward.cfg rate = 1", "forwarders.d/b.yaml log: b")
}

// Wherever a change is interrupted, repeating it finishes it, and a roll back leads to before it began.
func TestInterruptedChangeIsFinishedAndRolledBack(t *testing.T) {
	for _, broken := range []string{"rego", "logforward.cfg", "forwarders.d/b.yaml"} {
		t.Run(broken, func(t *testing.T) {
			b := newBench(t)
			b.stageAll()
			// Something else stands in the place of a file, or of its directory.
			obstacle := filepath.Join(b.dir, "etc", broken)
			if broken == "rego" {
				b.put("etc/rego", "")
			} else {
				if err := os.RemoveAll(obstacle); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(obstacle+"/x", 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := keepNow(b); err != nil {
				t.Fatal(err)
			}
			if err := Change(b.staged, b.now, b.former); err == nil || !strings.Contains(err.Error(), "repeat it") {
				t.Fatalf("%v", err)
			}
			if err := os.RemoveAll(obstacle); err != nil {
				t.Fatal(err)
			}
			if err := Change(b.staged, b.now, b.former); err != nil {
				t.Fatal(err)
			}
			b.want("finished", "logforward.cfg rate = 2", "forwarders.d/b.yaml log: b", "rego/logforward.rego package x")
			if err := Change(b.former, b.now, b.former); err != nil {
				t.Fatal(err)
			}
			b.want("rolled back", "logforward.cfg rate = 1", "forwarders.d/a.yaml log: a")
		})
	}
}

// keepNow keeps what was in force before the obstacle came, as a change does first.
func keepNow(b *bench) error {
	was := b.T.TempDir()
	for name, text := range map[string]string{"logforward.cfg": "rate = 1", "a.yaml": "log: a"} {
		if err := os.WriteFile(filepath.Join(was, name), []byte(text), 0o640); err != nil {
			return err
		}
	}
	return keep(Set{Settings: was + "/logforward.cfg", Definitions: was, Policy: was + "/none"}, b.former+".new")
}

func TestHostileStagedSetIsNotBelieved(t *testing.T) {
	for name, spoil := range map[string]func(b *bench) error{
		"directory of everybody":  func(b *bench) error { return os.Chmod(b.staged, 0o777) },
		"settings of everybody":   func(b *bench) error { return os.Chmod(b.staged+"/logforward.cfg", 0o666) },
		"definition of everybody": func(b *bench) error { return os.Chmod(b.staged+"/forwarders.d/b.yaml", 0o622) },
		"policy is a link": func(b *bench) error {
			return errors.Join(os.Remove(b.staged+"/logforward.rego"), os.Symlink("/etc/passwd", b.staged+"/logforward.rego"))
		},
		"definition is a link": func(b *bench) error { return os.Symlink("/etc/passwd", b.staged+"/forwarders.d/c.yaml") },
		"directory is a link": func(b *bench) error {
			return errors.Join(os.Rename(b.staged, b.staged+"2"), os.Symlink(b.staged+"2", b.staged))
		},
		"another's": func(b *bench) error {
			if os.Getuid() != 0 {
				return os.Chmod(b.staged, 0o777)
			}
			return os.Chown(b.staged+"/logforward.rego", 65534, 65534)
		},
		"huge": func(b *bench) error { return os.Truncate(b.staged+"/logforward.rego", maxFile+1) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.stageAll()
			if err := spoil(b); err != nil {
				t.Fatal(err)
			}
			if err := Change(b.staged, b.now, b.former); err == nil || errors.Is(err, ErrNothing) {
				t.Errorf("%v", err)
			}
			b.want("unchanged", "logforward.cfg rate = 1", "forwarders.d/a.yaml log: a")
		})
	}
}

func TestSame(t *testing.T) {
	b := newBench(t)
	b.put("x/forwarders.d/a.yaml", "log: a")
	for _, c := range []struct {
		a, b string
		dir  bool
		want bool
	}{
		{"etc/forwarders.d", "x/forwarders.d", true, true}, {"etc/forwarders.d", "x", true, false}, {"none", "nothing", false, true}, {"none", "etc/logforward.cfg", false, false}, {"none", "x", true, true},
	} {
		if got, err := Same(filepath.Join(b.dir, c.a), filepath.Join(b.dir, c.b), c.dir); err != nil || got != c.want {
			t.Errorf("%s, %s: %v, %v", c.a, c.b, got, err)
		}
	}
}
