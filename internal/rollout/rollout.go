// Package rollout changes what a node is told to do as a whole, and back.
//
// A set is a node's settings, definitions and policy. What is staged lies in a directory of its own, with
// any of them:
//
//	logforward.cfg       settings
//	forwarders.d/        definitions
//	logforward.rego      policy
//
// What isn't staged stays as it is. [Apply] keeps all that is in force as the former set before it changes anything, and
// [Rollback] puts that back in the same way: so a roll back can be rolled back. What was interrupted is undone by the next
// change before anything else, or finished where only its end was missing.
package rollout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"logforward/internal/trust"
)

// Names in a set's directory.
const (
	settingsName    = "logforward.cfg"
	definitionsName = "forwarders.d"
	policyName      = "logforward.rego"
	absentName      = "absent"   // in a former set: names of what wasn't there
	completeName    = "complete" // in one that is kept: all of it is there, see [journal]
	placedName      = "placed"   // in one that is being kept: what takes its place is in force
	// maxFile bounds a file of a set, in bytes.
	maxFile = 8 << 20
)

// Set is where the parts of a set lie. An empty part is none: what is there stays as it is.
type Set struct {
	Settings    string
	Definitions string // a directory
	Policy      string
	absent      []string // names of parts that are to go
}

// ErrNothing says that a directory holds no set.
var ErrNothing = errors.New("nothing is there")

// Open finds the set of a directory. What others than root, or this process's user, could have written is refused: it
// would decide what root's daemon does. Where there is none it is [ErrNothing].
func Open(dir string) (Set, error) {
	var s Set
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", dir, ErrNothing)
	}
	if err := trusted(dir, true); err != nil {
		return s, err
	}
	for name, part := range s.parts() {
		file := filepath.Join(dir, name)
		err := trusted(file, name == definitionsName)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Set{}, err
		}
		*part = file
	}
	if s.Definitions != "" {
		files, err := definitions(s.Definitions)
		if err != nil {
			return Set{}, err
		}
		for _, name := range files {
			if err := trusted(filepath.Join(s.Definitions, name), false); err != nil {
				return Set{}, err
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, absentName)); err == nil {
		s.absent = strings.Fields(string(b))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Set{}, err
	}
	if s.Settings == "" && s.Definitions == "" && s.Policy == "" && len(s.absent) == 0 {
		return s, fmt.Errorf("%s: %w", dir, ErrNothing)
	}
	return s, nil
}

// parts are the set's, by their names in its directory.
func (s *Set) parts() map[string]*string {
	return map[string]*string{settingsName: &s.Settings, definitionsName: &s.Definitions, policyName: &s.Policy}
}

// Over gives the set that is in force when s is put over what is in force now.
func (s Set) Over(now Set) Set {
	for name, part := range s.parts() {
		if *part == "" && !slices.Contains(s.absent, name) {
			*part = *now.parts()[name]
		}
	}
	return s
}

// trusted tells whether only root or this process's own user can have made what is there.
func trusted(path string, directory bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch {
	case directory != info.IsDir() || !directory && !info.Mode().IsRegular():
		return fmt.Errorf("%s is a %s, which isn't followed", path, info.Mode().Type())
	case !directory && info.Size() > maxFile:
		return fmt.Errorf("%s has %d bytes, at most %d are taken", path, info.Size(), maxFile)
	}
	if err := trust.Check(info); err != nil {
		return fmt.Errorf("%s: %w: it isn't believed", path, err)
	}
	return nil
}

// definitions are the names of a directory's definition files.
func definitions(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

// Same tells whether two files, or directories of definitions, say the same. What isn't there says nothing.
func Same(a, b string, directory bool) (bool, error) {
	if !directory {
		return sameFile(a, b)
	}
	one, err := definitions(a)
	if err != nil {
		return false, err
	}
	other, err := definitions(b)
	if err != nil || !slices.Equal(one, other) {
		return false, err
	}
	for _, name := range one {
		if same, err := sameFile(filepath.Join(a, name), filepath.Join(b, name)); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func sameFile(a, b string) (bool, error) {
	one, err := read(a)
	if err != nil {
		return false, err
	}
	other, err := read(b)
	return err == nil && string(one) == string(other) && (one == nil) == (other == nil), err
}

// read gives nil for a file that isn't there.
func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", file, maxFile)
	}
	return append([]byte{}, b...), err
}
