package seed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// own is a directory that only its owner may write to, whatever the test's umask.
func own(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "own")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestKeyIsMadeOnceAndKept(t *testing.T) {
	dir := own(t)
	path := filepath.Join(dir, "seal.key")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
	old := unix.Umask(0)
	key, made, err := LoadOrMake(path)
	unix.Umask(old)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(string(text)) // as Choria reads it
	if err != nil || !bytes.Equal(raw, key.Seed()) {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	again, made, err := LoadOrMake(path)
	if err != nil || made || !again.Equal(key) {
		t.Fatal(made, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	other, _, err := LoadOrMake(filepath.Join(own(t), "seal.key"))
	if err != nil || other.Equal(key) {
		t.Error("two nodes have one key", err)
	}
}

func TestKeyOfChoriaIsTaken(t *testing.T) {
	want := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	for _, end := range []string{"", "\n", "\r\n"} {
		path := filepath.Join(own(t), "server.seed")
		if err := os.WriteFile(path, []byte(hex.EncodeToString(want.Seed())+end), 0o400); err != nil {
			t.Fatal(err)
		}
		if key, err := Load(path); err != nil || !key.Equal(want) {
			t.Errorf("%q: %v", end, err)
		}
	}
}

// Processes that begin at once have one key: none signs with one that is then gone.
func TestKeyIsTheSameForAllWhoMakeIt(t *testing.T) {
	path := filepath.Join(own(t), "seal.key")
	keys, makers := make([]ed25519.PrivateKey, 16), 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, made, err := LoadOrMake(path)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if keys[i] = key; made {
				makers++
			}
		})
	}
	all.Wait()
	for _, key := range keys {
		if !key.Equal(keys[0]) {
			t.Fatal("they have different keys")
		}
	}
	if makers != 1 {
		t.Errorf("%d have made it", makers)
	}
}

func TestKeyThatOthersMayKnowIsRefused(t *testing.T) {
	seed := strings.Repeat("ab", ed25519.SeedSize)
	write := func(t *testing.T, path string, mode fs.FileMode) {
		if err := errors.Join(os.WriteFile(path, []byte(seed), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name string
		make func(t *testing.T, path string)
		says string
	}{
		{"read by the group", func(t *testing.T, path string) { write(t, path, 0o640) }, "mode 0640"},
		{"read by all", func(t *testing.T, path string) { write(t, path, 0o604) }, "mode 0604"},
		{"written by the group", func(t *testing.T, path string) { write(t, path, 0o620) }, "mode 0620"},
		{"written by all", func(t *testing.T, path string) { write(t, path, 0o602) }, "mode 0602"},
		{"a link", func(t *testing.T, path string) {
			write(t, path+".real", 0o600)
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"a link to nowhere", func(t *testing.T, path string) {
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"a pipe", func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no regular file"},
		{"a directory that all may write to", func(t *testing.T, path string) {
			write(t, path, 0o600)
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "mode 0777"},
		{"a directory that the group may write to, and no key", func(t *testing.T, path string) {
			if err := os.Chmod(filepath.Dir(path), 0o770); err != nil {
				t.Fatal(err)
			}
		}, "mode 0770"},
		{"another's file", func(t *testing.T, path string) {
			write(t, path, 0o600)
			if err := os.Chown(path, 4711, -1); err != nil {
				t.Skip("only root can give files away: ", err)
			}
		}, "uid 4711"},
		{"another's directory", func(t *testing.T, path string) {
			write(t, path, 0o600)
			if err := os.Chown(filepath.Dir(path), 4711, -1); err != nil {
				t.Skip("only root can give files away: ", err)
			}
		}, "uid 4711"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(own(t), "seal.key")
			test.make(t, path)
			type outcome struct {
				key ed25519.PrivateKey
				err error
			}
			both := make(chan outcome, 2)
			go func() {
				key, err := Load(path)
				both <- outcome{key, err}
				key, _, err = LoadOrMake(path)
				both <- outcome{key, err}
				close(both)
			}()
			limit := time.After(30 * time.Second)
			for {
				select {
				case o, ok := <-both:
					if !ok {
						return
					}
					if o.key != nil || !errors.Is(o.err, ErrUnsafe) || !strings.Contains(o.err.Error(), test.says) || strings.Contains(o.err.Error(), seed) {
						t.Errorf("%v", o.err)
					}
				case <-limit:
					t.Fatal("it hangs")
				}
			}
		})
	}
}

// A daemon's own user is as good as root, where somebody else looks at its key.
func TestKeyOfTheDaemonsUser(t *testing.T) {
	path := filepath.Join(own(t), "seal.key")
	if _, _, err := LoadOrMake(path); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(path, 4711, -1), os.Chown(filepath.Dir(path), 4711, -1)); err != nil {
		t.Skip("only root can give files away: ", err)
	}
	if _, err := Load(path, 4712); !errors.Is(err, ErrUnsafe) {
		t.Error(err)
	}
	if _, err := Load(path, 4711); err != nil {
		t.Error(err)
	}
}

func TestKeyInAStickyDirectory(t *testing.T) {
	dir := own(t)
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, made, err := LoadOrMake(filepath.Join(dir, "seal.key")); err != nil || !made {
		t.Error(made, err)
	}
}

func TestKeyThatIsNoSeedIsRefused(t *testing.T) {
	good := strings.Repeat("0a", ed25519.SeedSize)
	for _, text := range []string{"", "\n", good[:62], good + "00", " " + good, good + "\n\n", good + " ", good + "\n" + good, "x" + good[1:], strings.Repeat("0a", 1<<20), "\x00" + good[1:]} {
		path := filepath.Join(own(t), "seal.key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := Load(path)
		if key != nil || !errors.Is(err, ErrMalformed) || len(text) > 30 && strings.Contains(err.Error(), text[1:20]) {
			t.Errorf("%.80q: %v", text, err)
		}
		if now, rerr := os.ReadFile(path); rerr != nil || string(now) != text {
			t.Errorf("%.80q: it was changed", text)
		}
		if _, _, err := LoadOrMake(path); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

// What can't be made leaves nothing behind, and says what to do.
func TestKeyWithoutADirectory(t *testing.T) {
	path := filepath.Join(own(t), "none", "seal.key")
	if _, _, err := LoadOrMake(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

// A Choria server's seed is made by Choria, when it is provisioned.
func TestChoriasSeedIsNotMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(own(t), "server.seed")
	if _, made, err := LoadOrMake(path); made || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v", made, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
