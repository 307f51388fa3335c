// Package seed keeps the Ed25519 key by which a node signs: a file with the key's seed, 64 hex digits, as Choria's server.seed is.
//
// Whoever can read the file can sign in the node's name, and whoever can put another one in its place can have the node sign with a key that they know. So it
// counts only where no one but its owner may read or write it, where the owner is root or the one who uses it, and where its directory is such, too.
package seed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUnsafe: somebody else may know the key or have put it there. ErrMalformed: the file holds no seed.
var (
	ErrUnsafe    = errors.New("is not safe")
	ErrMalformed = errors.New("is no Ed25519 seed: 64 hex digits in one line, as in Choria's server.seed")
)

// Load reads the key in a file. The file and its directory must belong to root, to this process's user or to one of others (uids): whoever checks the key
// of a daemon that runs as another user names that one. Errors wrap [fs.ErrNotExist] where there is none, [ErrUnsafe] or [ErrMalformed].
func Load(path string, others ...int) (ed25519.PrivateKey, error) {
	dir, err := openDir(path, others)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return load(dir, path, others)
}

// choriaName is the name of a Choria server's seed, which Choria makes.
const choriaName = "server.seed"

// Makes tells whether [LoadOrMake] makes such a file where there is none.
func Makes(path string) bool { return filepath.Base(path) != choriaName }

// LoadOrMake is [Load], but makes a key where there is none: of mode 0600, and on disk when it returns. Of several processes that do so at once all get the
// same key. made tells whether it is new. A server.seed isn't made: that is Choria's, whose tokens name its key.
func LoadOrMake(path string) (key ed25519.PrivateKey, made bool, err error) {
	dir, err := openDir(path, nil)
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	if key, err = load(dir, path, nil); !errors.Is(err, fs.ErrNotExist) || !Makes(path) {
		return key, false, err
	}
	if made, err = create(dir, path); err != nil {
		return nil, false, err
	}
	key, err = load(dir, path, nil)
	return key, made, err
}

// openDir opens the directory of path. What follows goes by the descriptor: nobody can exchange it in between.
func openDir(path string, others []int) (*os.File, error) {
	dir, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("directory of the key %s: %w", path, err)
	}
	info, err := dir.Stat()
	if err == nil {
		// In a sticky directory others may make files, but exchange none of ours.
		err = owned(info, others)
		if err == nil && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
			err = fmt.Errorf("others may write to it (mode %04o)", info.Mode().Perm())
		}
		if err != nil {
			err = fmt.Errorf("the key %s %w: its directory: %w; keep it in one of root's or the daemon's own, mode 0755 or less", path, ErrUnsafe, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

func owned(info fs.FileInfo, others []int) error {
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	for _, good := range append([]int{0, os.Geteuid()}, others...) {
		if uid == good {
			return nil
		}
	}
	return fmt.Errorf("it belongs to uid %d", uid)
}

func load(dir *os.File, path string, others []int) (ed25519.PrivateKey, error) {
	// Neither a link is followed, nor a pipe waited for.
	fd, err := unix.Openat(int(dir.Fd()), filepath.Base(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("the key %s %w: it is a symbolic link; name the file itself", path, ErrUnsafe)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open the key", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the key %s %w: it is no regular file (%s)", path, ErrUnsafe, info.Mode().Type())
	}
	if err := owned(info, others); err != nil {
		return nil, fmt.Errorf("the key %s %w: %w; it must be root's or the daemon's own", path, ErrUnsafe, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the key %s %w: others than its owner may read or write it (mode %04o); chmod 0600 it, or, if somebody may have read it, remove it and have a new one made", path, ErrUnsafe, mode)
	}
	const most = 2*ed25519.SeedSize + 2 // with an end of line
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	seed := make([]byte, ed25519.SeedSize)
	if text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")); len(text) != hex.EncodedLen(len(seed)) {
		return nil, fmt.Errorf("the key %s %w", path, ErrMalformed)
	}
	if _, err := hex.Decode(seed, text); err != nil {
		return nil, fmt.Errorf("the key %s %w", path, ErrMalformed) // not what is wrong with it: that would tell of it
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// create makes a new key under a name of its own and links it to its place, where nobody can see half of it. false: another one is there already.
func create(dir *os.File, path string) (made bool, err error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return false, fmt.Errorf("make the key %s: %w", path, err)
	}
	fail := func(err error) (bool, error) {
		return false, fmt.Errorf("make the key %s: %w; let the daemon's user write there, or name another seal_key", path, err)
	}
	base := filepath.Base(path)
	temporary := "." + base + "." + rand.Text()
	fd, err := unix.Openat(int(dir.Fd()), temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), temporary)
	defer func() { err = errors.Join(err, unix.Unlinkat(int(dir.Fd()), temporary, 0)) }()
	if _, err = f.WriteString(hex.EncodeToString(seed)); err == nil { // no end of line: Choria takes none
		err = errors.Join(f.Chmod(0o600), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	err = unix.Linkat(int(dir.Fd()), temporary, int(dir.Fd()), base, 0)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err == nil {
		err = dir.Sync()
	}
	if err != nil {
		return fail(err)
	}
	return true, nil
}
