package rollout

import (
	"errors"
	"fmt"
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

func apply(b *bench) error {
	over, err := Apply(b.staged, b.now, b.former)
	if err == nil && over != Done {
		err = fmt.Errorf("outcome %d", over)
	}
	return err
}

func rollback(b *bench) error {
	over, err := Rollback(b.now, b.former)
	if err == nil && over != Done {
		err = fmt.Errorf("outcome %d", over)
	}
	return err
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
	if err := apply(b); err != nil {
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
		if err := rollback(b); err != nil {
			t.Fatal(err)
		}
		b.want("rolled back", before...)
		if err := rollback(b); err != nil {
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
	if err := apply(b); err != nil {
		t.Fatal(err)
	}
	b.want("changed", "logforward.cfg rate = 1", "forwarders.d/b.yaml log: b")
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
			if err := apply(b); err == nil || errors.Is(err, ErrNothing) {
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
