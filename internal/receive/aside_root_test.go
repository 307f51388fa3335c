package receive

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Where root asks, a receiver's user, whose the state is, can't have anything else given to it, or written.
func TestRootAsksWhereSomebodyHasPutALink(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root gives files to others")
	}
	state, secrets := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	secret, cut := filepath.Join(secrets, "web1"), filepath.Join(state, "cut", "web1", "syslog@1-14@10")
	must(os.Mkdir(secret, 0o700))
	must(os.MkdirAll(filepath.Dir(cut), 0o700))
	must(os.WriteFile(cut, []byte("only copy\n"), 0o600))
	must(os.Chown(state, 12345, 12345))
	must(os.Symlink(secrets, filepath.Join(state, "asked")))
	if err := AskAside(state, cut, asked(AsideDrop)); err == nil {
		t.Error("it is asked for by way of the link")
	}
	st, err := os.Stat(secret)
	must(err)
	if st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Error("the receiver's user owns what was root's")
	}
	entries, err := os.ReadDir(secret)
	must(err)
	if len(entries) > 0 {
		t.Errorf("there is %v", entries)
	}
}
