package wish

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func some(reason string) Wish {
	return Wish{Verb: "pause", Body: json.RawMessage(`{"all":true}`), Caller: "choria=alice.mcollective", RequestID: reason, Time: time.Now()}
}

func TestOrderAndDone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wishes")
	if list, problems := Read(dir); len(list)+len(problems) > 0 {
		t.Fatalf("%v %v", list, problems)
	}
	now := time.Now()
	for i, id := range []string{"first", "second", "third"} {
		w := some(id)
		w.Time = now.Add(time.Duration(i/2) * time.Nanosecond) // two of one instant
		if err := Record(dir, w); err != nil {
			t.Fatal(err)
		}
	}
	list, problems := Read(dir)
	if len(list) != 3 || len(problems) > 0 || list[0].RequestID != "first" || list[1].RequestID != "second" || string(list[2].Body) != `{"all":true}` {
		t.Fatalf("%+v %v", list, problems)
	}
	for range 2 { // twice is no error: the power may go between
		if err := list[0].Done(); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := Read(dir); len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	if info, err := os.Stat(list[1].File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A clock that is set back between two wishes doesn't turn their order round: the later one counts.
func TestOrderOutlivesTheClock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wishes")
	now := time.Now()
	for i, id := range []string{"first", "second", "third", "fourth"} {
		w := some(id)
		w.Time = now.Add(-time.Duration(i%3) * time.Hour)
		if err := Record(dir, w); err != nil {
			t.Fatal(err)
		}
	}
	list, problems := Read(dir)
	var ids []string
	for _, e := range list {
		ids = append(ids, e.RequestID)
	}
	if len(problems) > 0 || strings.Join(ids, " ") != "first second third fourth" || !list[1].Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("%v %v", ids, problems)
	}
}

// Whatever another user may have made isn't believed, and doesn't hide what is.
func TestHostileDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wishes")
	if err := Record(dir, some("mine")); err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(some("theirs"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	fails := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside.json")
	fails(os.WriteFile(outside, whole, 0o600))
	bad := []string{
		put("0-written.json", whole, 0o622), put("0-group.json", whole, 0o660), put("0-half.json", whole[:20], 0o600),
		put("0-large.json", append(whole, make([]byte, MaxSize)...), 0o600), filepath.Join(dir, "0-link.json"), filepath.Join(dir, "0-fifo.json"),
		filepath.Join(dir, "0-directory.json"), filepath.Join(dir, "0-second.json"),
	}
	fails(os.Symlink(outside, filepath.Join(dir, "0-link.json")))
	fails(syscall.Mkfifo(filepath.Join(dir, "0-fifo.json"), 0o600))
	fails(os.Mkdir(filepath.Join(dir, "0-directory.json"), 0o700))
	fails(os.Link(outside, filepath.Join(dir, "0-second.json")))
	put(".wish-123", whole, 0o600)
	put("README", whole, 0o600)
	if os.Getuid() == 0 {
		fails(os.Chown(put("0-owned.json", whole, 0o600), 65534, 65534))
		bad = append(bad, filepath.Join(dir, "0-owned.json"))
	}
	list, problems := Read(dir)
	if len(list) != 1 || list[0].RequestID != "mine" {
		t.Errorf("%+v", list)
	}
	text := errors.Join(problems...).Error()
	for _, file := range bad {
		if !strings.Contains(text, file) {
			t.Errorf("%s isn't complained about:\n%s", file, text)
		}
	}
	if len(problems) != len(bad) {
		t.Errorf("%d problems of %d:\n%s", len(problems), len(bad), text)
	}
}

// Root records in its own directories and in those of the packages' daemon; what is anybody else's isn't one where a daemon
// would look. (That the packages' daemon takes what root recorded is a test of the packages.)
func TestRootRecordsNothingForStrangers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := Record(dir, some("mine")); err == nil || !strings.Contains(err.Error(), "not to root") {
		t.Errorf("%v", err)
	}
}

func TestDirectoryOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := Record(dir, some("x")); err == nil {
		t.Error("recorded where anybody may write")
	}
	if _, problems := Read(dir); len(problems) == 0 {
		t.Error("read where anybody may write")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := Record(link, some("x")); err == nil {
		t.Error("recorded through a link")
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	large := some("x")
	large.Body = json.RawMessage(`"` + strings.Repeat("x", MaxSize) + `"`)
	if err := Record(dir, large); err == nil {
		t.Error("recorded what Read won't take")
	}
	for i := range MaxCount {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.json", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Record(dir, some("x")); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != MaxCount {
		t.Errorf("%d files, %v", len(names), err)
	}
}
