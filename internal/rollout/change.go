package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

// Outcome is what a change came to.
type Outcome int

const (
	Done     Outcome = iota // as it was asked for
	Finished                // one that was interrupted just before its end is finished, and nothing was left to do
	Undone                  // an apply that was interrupted is taken back: what was in force before it is in force, its set still waits
)

// ErrBusy says that another change is at work.
var ErrBusy = errors.New("another apply or rollback is at work here")

// Apply puts the set of the directory staged into force, and keeps what was in force in the directory former. When it
// returns nil all of it is on disk, and staged is gone. After an error nothing has changed, or, where the error says so,
// repeating it or a rollback leads on. now is where the parts lie.
//
// Everything is written beside its place before the first name changes, so a full disk changes nothing. A process that ends
// at any point leaves either nothing, or a change that the next one sees in the journal:
//
//	former.new/           copy of what is in force; without the file complete it says nothing
//	former.new/complete   the copy is whole: names change from here on
//	former.new/placed     all names have changed
//	former.spent, staged.spent   to be deleted
//
// It ends with the rename of former.new to former.
func Apply(staged string, now Set, former string) (Outcome, error) {
	return (&change{now: now, former: former}).run(kindApply, staged)
}

// Rollback puts the former set back where it was, and keeps what was in force in its place, so that a second one takes the
// first one back. An apply that was interrupted is undone instead. now counts where the former set doesn't say where it was.
func Rollback(now Set, former string) (Outcome, error) {
	return (&change{now: now, former: former}).run(kindRollback, former)
}

const (
	kindApply    = "apply"
	kindRollback = "rollback"
)

type change struct {
	now    Set
	former string
	at     func(string) // a test's: called before each step
}

func (c *change) step(name string) {
	if c.at != nil {
		c.at(name)
	}
}

// spent ends the name of a directory that is to be deleted: by a rename first, for what is half deleted would pass for a set.
const spent = ".spent"

func (c *change) kept() string { return c.former + ".new" }

// journal is the file complete: what is being done, and where the parts lie.
type journal struct {
	Kind        string `json:"kind"`
	From        string `json:"from"`
	Settings    string `json:"settings"`
	Definitions string `json:"definitions"`
	Policy      string `json:"policy"`
}

// readJournal gives nil where there is none.
func readJournal(dir string) (*journal, error) {
	file := filepath.Join(dir, completeName)
	b, err := read(file)
	if err != nil || b == nil {
		return nil, err
	}
	j := new(journal)
	if len(b) == 0 {
		return j, nil
	}
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("%s: %w; remove %s if what is in force is as it should be", file, err, dir)
	}
	return j, nil
}

// places are where the journal says that the parts lie.
func (j *journal) places(otherwise Set) Set {
	if j == nil || j.Settings == "" {
		return otherwise
	}
	return Set{Settings: j.Settings, Definitions: j.Definitions, Policy: j.Policy}
}

func (c *change) run(kind, from string) (Outcome, error) {
	if err := os.MkdirAll(filepath.Dir(c.former), 0o755); err != nil {
		return Done, err
	}
	lock, err := os.OpenFile(c.former+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return Done, err
	}
	defer flock.Release(lock)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return Done, fmt.Errorf("%w (%s): repeat it", ErrBusy, lock.Name())
	}
	over, err := c.recover(kind, from)
	if err != nil {
		return over, fmt.Errorf("a change that was interrupted: %w", err)
	}
	if over == Undone || over == Finished && kind == kindRollback {
		return over, nil
	}
	next, err := Open(from)
	if errors.Is(err, ErrNothing) && over == Finished {
		return over, nil
	}
	if err != nil {
		return Done, err
	}
	if kind == kindRollback {
		before, err := readJournal(from)
		if err != nil {
			return Done, err
		}
		c.now = before.places(c.now)
	}
	if err := c.keep(journal{kind, from, c.now.Settings, c.now.Definitions, c.now.Policy}); err != nil {
		return Done, fmt.Errorf("keep what is in force: %w; nothing was changed", errors.Join(err, c.drop()))
	}
	p, err := c.prepare(next)
	if err != nil {
		return Done, fmt.Errorf("%w; nothing was changed", errors.Join(err, c.drop()))
	}
	if err := c.place(p); err != nil {
		return Done, fmt.Errorf("%w; repeat it, or roll back", err)
	}
	return Done, c.commit(from)
}

// recover ends what another process left in the middle.
func (c *change) recover(kind, from string) (Outcome, error) {
	if _, err := os.Lstat(c.kept()); errors.Is(err, fs.ErrNotExist) {
		last, err := readJournal(c.former)
		if err == nil && last != nil && last.From != "" {
			err = os.RemoveAll(last.From + spent)
		}
		return Done, errors.Join(err, os.RemoveAll(c.former+spent), os.RemoveAll(from+spent))
	}
	if err := trusted(c.kept(), true); err != nil {
		return Done, err
	}
	j, err := readJournal(c.kept())
	if err != nil {
		return Done, err
	}
	if j == nil {
		return Done, c.drop() // names hadn't changed yet
	}
	if _, err := os.Lstat(filepath.Join(c.kept(), placedName)); err == nil {
		// A repeated rollback means the same one; an apply in its place means what is staged since.
		if err := c.commit(j.From); err != nil {
			return Done, err
		}
		if kind == j.Kind {
			return Finished, nil
		}
		return Done, nil
	}
	before, err := Open(c.kept())
	if err != nil {
		return Done, err
	}
	back := &change{now: j.places(c.now), former: c.former, at: c.at}
	p, err := back.prepare(before)
	if err == nil {
		err = back.place(p)
	}
	if err != nil {
		return Done, err
	}
	if err := errors.Join(back.sweep(), c.drop()); err != nil {
		return Done, err
	}
	if kind == kindRollback && j.Kind != kindRollback {
		return Undone, nil
	}
	return Done, nil
}

// keep copies what is in force, and notes what isn't there. The journal comes last.
func (c *change) keep(j journal) error {
	dir := c.kept()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var absent []string
	for name, part := range c.now.parts() {
		c.step("keep " + name)
		_, err := os.Stat(*part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, name)
			continue
		case err != nil:
			return err
		}
		if name != definitionsName {
			if err := put(*part, filepath.Join(dir, name)); err != nil {
				return err
			}
			continue
		}
		names, err := definitions(*part)
		if err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		for _, file := range names {
			if err := put(filepath.Join(*part, file), filepath.Join(dir, name, file)); err != nil {
				return err
			}
		}
	}
	slices.Sort(absent)
	if err := write(filepath.Join(dir, absentName), []byte(strings.Join(absent, "\n")+"\n"), 0o600, -1, -1); err != nil {
		return err
	}
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	c.step("journal")
	return write(filepath.Join(dir, completeName), b, 0o600, -1, -1)
}

// drop forgets what was kept: nothing has changed, or it is changed back.
func (c *change) drop() error {
	old := c.former + spent
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	c.step("drop")
	if err := os.Rename(c.kept(), old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(filepath.Dir(c.former)); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// sweep deletes what a killed process prepared.
func (c *change) sweep() error {
	names := []string{beside(c.now.Settings), beside(c.now.Policy)}
	entries, err := os.ReadDir(c.now.Definitions)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), preparedPrefix) || strings.HasPrefix(e.Name(), "."+preparedPrefix) {
			names = append(names, filepath.Join(c.now.Definitions, e.Name()))
		}
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// preparedPrefix begins the names of files that wait beside their places; nobody takes them for definitions.
const preparedPrefix = ".rollout-"

func beside(file string) string {
	return filepath.Join(filepath.Dir(file), preparedPrefix+filepath.Base(file))
}

// prepared is a change that takes but renames and removals.
type prepared struct {
	names   [][2]string // from, to; in this order
	removed []string
}

// prepare writes each file of a set beside its place.
func (c *change) prepare(next Set) (p prepared, err error) {
	defer func() {
		if err != nil {
			for _, n := range p.names {
				_ = os.Remove(n[0]) // the next change begins with that, too
			}
		}
	}()
	add := func(from, to string) error {
		temp := beside(to)
		c.step("write " + to)
		p.names = append(p.names, [2]string{temp, to})
		if info, err := os.Lstat(to); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file, and isn't replaced", to)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return put(from, temp)
	}
	// Policy first: what is defined is then decided on by the document that comes with it.
	for _, part := range []struct{ name, from, to string }{{policyName, next.Policy, c.now.Policy}, {settingsName, next.Settings, c.now.Settings}} {
		switch absent := slices.Contains(next.absent, part.name); {
		case part.to == "" && part.from != "":
			return p, fmt.Errorf("there is no place for %s: the settings name none", part.name)
		case part.to == "":
		case absent:
			p.removed = append(p.removed, part.to)
		case part.from != "":
			if err := add(part.from, part.to); err != nil {
				return p, err
			}
		}
	}
	absent := slices.Contains(next.absent, definitionsName)
	if next.Definitions == "" && !absent {
		return p, nil
	}
	var names []string
	if !absent {
		if names, err = definitions(next.Definitions); err != nil {
			return p, err
		}
		if err := os.MkdirAll(c.now.Definitions, 0o755); err != nil {
			return p, err
		}
	}
	for _, name := range names {
		if err := add(filepath.Join(next.Definitions, name), filepath.Join(c.now.Definitions, name)); err != nil {
			return p, err
		}
	}
	old, err := definitions(c.now.Definitions)
	for _, name := range old {
		if !slices.Contains(names, name) {
			p.removed = append(p.removed, filepath.Join(c.now.Definitions, name))
		}
	}
	return p, err
}

// place changes the names. It is all on disk when it returns nil.
func (c *change) place(p prepared) error {
	dirs := map[string]bool{}
	for _, n := range p.names {
		c.step("place " + n[1])
		if err := os.Rename(n[0], n[1]); err != nil {
			return fmt.Errorf("put %s into force: %w", n[1], err)
		}
		dirs[filepath.Dir(n[1])] = true
	}
	for _, file := range p.removed {
		c.step("remove " + file)
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take %s away: %w", file, err)
		}
		dirs[filepath.Dir(file)] = true
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// commit makes what was kept the former set. It may be repeated.
func (c *change) commit(from string) error {
	c.step("placed")
	if err := write(filepath.Join(c.kept(), placedName), nil, 0o600, -1, -1); err != nil {
		return err
	}
	for _, dir := range []string{from, c.former} {
		c.step("spend " + dir)
		if _, err := os.Lstat(dir + spent); err == nil {
			continue // it is; what is there now was staged since
		}
		if err := os.Rename(dir, dir+spent); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	c.step("commit")
	if err := os.Rename(c.kept(), c.former); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(c.former)); err != nil {
		return err
	}
	c.step("clean")
	return errors.Join(os.RemoveAll(from+spent), os.RemoveAll(c.former+spent))
}

// put makes a copy of a file, with its owner and mode.
func put(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	b, err := read(from)
	if err != nil {
		return err
	}
	s := info.Sys().(*syscall.Stat_t)
	return write(to, b, info.Mode().Perm(), int(s.Uid), int(s.Gid))
}

// write makes or replaces a file; an owner of -1 is this process's. It is on disk, name and all, when it returns nil.
func write(file string, b []byte, mode fs.FileMode, uid, gid int) error {
	// One name, so that what a killed process leaves is written over.
	temp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".part")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if uid >= 0 && (os.Geteuid() == 0 || uid == os.Geteuid()) {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("%s: it may not outlast a loss of power: %w", file, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
