package receive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// plainNames is the file below an output that names the receiver whose files have plain names there. Where several share a
// directory, the others' names all have their receiver's suffix. A receiver that crashes right after it has chosen a name can't
// tell later whether the file of that name is its own, unless nobody else could have made it. No identity's directory is
// called so: there is no @ in their names.
const plainNames = "@plain-names"

// claimPlainNames finds out, once, whether another receiver has the plain names. Where nobody has them this one takes them.
func (r *Receiver) claimPlainNames() error {
	r.claim.Lock()
	defer r.claim.Unlock()
	if r.claimed {
		return nil
	}
	for {
		f, err := openBelow(r.config.Output, plainNames, os.O_RDONLY, 0, 0)
		if err == nil {
			b, err := io.ReadAll(io.LimitReader(f, 1024))
			f.Close()
			if err != nil {
				return err
			}
			r.naming.suffixed = strings.TrimSpace(string(b)) != r.config.Name
			r.claimed = true
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := r.leave(plainNames, r.config.Name); err != nil {
			return err
		}
	}
}

// leave makes a file right below the output, whole or not at all: it is linked when it is written. That somebody was faster is no error.
func (r *Receiver) leave(name, line string) error {
	path := filepath.Join(r.config.Output, name)
	text := []byte(line + "\n")
	own := fmt.Sprintf("%s@%s%s", path, r.naming.receiver, unfinished)
	if err := os.WriteFile(own, text, r.config.FileMode); err != nil {
		return err
	}
	if err := syncFile(own); err != nil {
		return err
	}
	err := os.Link(own, path)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	} else if err != nil {
		err = linkless(path, text, err)
	}
	return errors.Join(err, os.Remove(own), syncDir(r.config.Output))
}

// linkless makes the file where the file system has no links. A reader that comes in between takes it for another's, which
// does no harm.
func linkless(path string, text []byte, why error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return errors.Join(why, err)
	}
	_, err = io.Copy(f, bytes.NewReader(text))
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
