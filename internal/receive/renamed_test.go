package receive

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A run that is over lies in a file that isn't closed yet, and is closed between the look at its ledger and that at the file.
func TestFileIsClosedBetweenTheLooks(t *testing.T) {
	t.Parallel()
	const (
		begun = `{"time":"2026-11-26T20:32:45Z","event":"range","epoch":1,"from":173,"file":"web1/app@r1.log","digest":"6497b5c4fed4b43c"}` + "\n" +
			`{"time":"2026-11-26T20:32:56Z","event":"end","epoch":1,"from":173,"to":178,"file":"web1/app@r1.log","offset":5}` + "\n"
		closes = `{"time":"2026-11-26T20:32:57Z","event":"close","epoch":1,"from":173,"to":178,"file":"web1/app@r1.log","name":"web1/app@r1@20261126T203257Z.log","size":5}` + "\n"
	)
	for name, c := range map[string]struct{ name, line string }{
		"not yet":                               {"app@r1.log", ""},
		"and told":                              {"app@r1@20261126T203257Z.log", closes},
		"and its receiver ended before it told": {"app@r1@20261126T203257Z.log", ""},
		"it is removed":                         {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			dir := filepath.Join(out, "web1")
			ledger := filepath.Join(dir, "app@ledger@r1.jsonl")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(ledger, []byte(begun), 0o644), os.WriteFile(filepath.Join(dir, "app@r1.log"), []byte("bytes"), 0o644)); err != nil {
				t.Fatal(err)
			}
			extents, err := Extents([]string{out}, "web1", "app")
			if err != nil || len(extents) != 1 || extents[0].End != 5 {
				t.Fatalf("%+v, %v", extents, err)
			}
			if c.name == "" {
				err = os.Remove(filepath.Join(dir, "app@r1.log"))
			} else {
				err = errors.Join(os.Rename(filepath.Join(dir, "app@r1.log"), filepath.Join(dir, c.name)), os.WriteFile(ledger, []byte(begun+c.line), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			f, err := extents[0].open()
			if c.name == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if b, err := io.ReadAll(f); err != nil || string(b) != "bytes" {
				t.Errorf("%q, %v", b, err)
			}
			var b strings.Builder
			if missing, err := Cat(&b, []string{out}, "web1", "app"); err != nil || missing > 0 || b.String() != "bytes" {
				t.Errorf("cat: %q, %d missing, %v", b.String(), missing, err)
			}
		})
	}
}
