package pipe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"logforward/internal/forward"
	"logforward/internal/receive"
)

// began is a node that runs and has delivered the first bytes of app, which are returned.
func began(t *testing.T, change ...func(*rig)) (*node, []byte) {
	t.Helper()
	t.Parallel()
	n := newRig(t, change...).node
	first := text("first", 100<<10)
	n.write("app.log", first)
	n.start()
	n.exact("app", first)
	n.rotatedCentrally("app")
	return n, first
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestRenameRotationLosesNothing(t *testing.T) {
	n, want := began(t)
	old, err := os.OpenFile(n.path("app.log"), os.O_APPEND|os.O_WRONLY, 0)
	n.must(err)
	defer old.Close()
	n.rename("app.log", "app.log.1")
	second := text("second", 70<<10)
	n.write("app.log", second)
	want = join(want, second)
	n.exact("app", want)

	// A writer that hasn't reopened yet goes on in the old file: behind what was sent.
	late := text("late", 5<<10)
	_, err = old.Write(late)
	n.must(err)
	want = join(want, late)
	n.exact("app", want)

	third := text("third", 3<<10)
	n.write("app.log", third)
	want = join(want, third)
	n.exact("app", want)

	// Three rotations in one pause.
	n.pause("app")
	for i := range 3 {
		n.rename("app.log", fmt.Sprintf("app.log.%d", 5-i))
		b := text(fmt.Sprint("quick", i), 20<<10)
		n.write("app.log", b)
		want = join(want, b)
	}
	n.resume("app")
	n.exact("app", want)
}

func TestCopytruncateIsFinishedFromTheCopy(t *testing.T) {
	n, want := began(t)
	// All of it was read before.
	n.copy("app.log", "app.log.1")
	n.truncate("app.log")
	second := text("second", 9<<10)
	n.write("app.log", second)
	want = join(want, second)
	n.exact("app", want)

	// The forwarder is behind.
	n.pause("app")
	third := text("third", 80<<10)
	n.write("app.log", third)
	n.seen("app", len(third))
	n.rename("app.log.1", "app.log.2")
	n.copy("app.log", "app.log.1")
	n.truncate("app.log")
	fourth := text("fourth", 4<<10)
	n.write("app.log", fourth)
	n.resume("app")
	want = join(want, third, fourth)
	n.exact("app", want)
}

func TestTruncationAfterAllWasReadLosesNothing(t *testing.T) {
	n, want := began(t)
	n.truncate("app.log")
	second := text("second", 8<<10)
	n.write("app.log", second)
	want = join(want, second)
	n.exact("app", want)
}

// What was truncated away unread is a gap, whether the new content is shorter or longer than the old.
func TestTruncationBeforeReadingIsAGap(t *testing.T) {
	for _, size := range []int{6 << 10, 300 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			n, want := began(t)
			n.pause("app")
			unread := text("unread", 50<<10)
			n.write("app.log", unread)
			n.seen("app", len(unread))
			n.truncate("app.log")
			after := text("after", size)
			n.write("app.log", after)
			n.resume("app")
			n.exact("app", join(want, after), loss{"truncated", int64(len(unread))})
		})
	}
}

func TestFileMadeAfterTheStart(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.start()
	n.eventually("the log to wait for its file", func() error {
		if s := n.status("app"); s.State != forward.Failed {
			return fmt.Errorf("%s %s", s.State, s.LastError)
		}
		return nil
	})
	want := text("new", 90<<10)
	n.write("app.log", want)
	n.exact("app", want)
}

func TestDeletedFileIsHeldWhileBehind(t *testing.T) {
	n, want := began(t)
	n.pause("app")
	unread := text("unread", 70<<10)
	n.write("app.log", unread)
	n.seen("app", len(unread))
	n.remove("app.log")
	after := text("after", 10<<10)
	n.write("app.log", after)
	n.resume("app")
	n.exact("app", join(want, unread, after))
}

func TestDeletedFileBeyondTheBudgetIsAGap(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.change = func(c *forward.Config) { c.Limits.HeldDeleted = 10 << 10 }
	want := text("first", 100<<10)
	n.write("app.log", want)
	n.start()
	n.exact("app", want)
	n.pause("app")
	unread := text("unread", 70<<10)
	n.write("app.log", unread)
	n.seen("app", len(unread))
	n.remove("app.log")
	after := text("after", 10<<10)
	n.write("app.log", after)
	n.seen("app", len(after))
	n.resume("app")
	n.exact("app", join(want, after), loss{"deleted beyond the budget", int64(len(unread))})
}

func TestSymlinkSwap(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	secret := filepath.Join(t.TempDir(), "secret")
	n.must(os.WriteFile(secret, []byte("secret\n"), 0o600))
	one, two := text("one", 80<<10), text("two", 30<<10)
	n.write("day1", one)
	n.write("day2", two)
	n.symlink(n.path("day1"), "app.log")
	n.start()
	n.exact("app", one)

	n.symlink(n.path("day2"), "app.log")
	want := join(one, two)
	n.exact("app", want)

	n.symlink(secret, "app.log")
	n.eventually("the forbidden file to be refused", func() error {
		if s := n.status("app"); s.State != forward.Failed {
			return fmt.Errorf("%s %s", s.State, s.LastError)
		}
		return nil
	})
	n.round()
	n.must(n.central("app", want, nil))

	more := text("more", 2<<10)
	n.write("day2", more)
	n.symlink(n.path("day2"), "app.log")
	n.exact("app", join(want, more))
}

func TestDirectoryRemovedAndMadeAgain(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.logs[0].Path = n.path("sub/app.log")
	n.must(os.Mkdir(n.path("sub"), 0o755))
	one, two := text("one", 80<<10), text("two", 30<<10)
	n.write("sub/app.log", one)
	n.start()
	n.exact("app", one)
	n.must(os.RemoveAll(n.path("sub")))
	n.eventually("the directory to be missed", func() error {
		if s := n.status("app"); s.State != forward.Failed {
			return fmt.Errorf("%s %s", s.State, s.LastError)
		}
		return nil
	})
	n.must(os.Mkdir(n.path("sub"), 0o755))
	n.write("sub/app.log", two)
	n.exact("app", join(one, two))
}

// TestInodeReuse removes the file and makes it anew with the same inode, which ext2 gives again at once.
func TestInodeReuse(t *testing.T) {
	t.Parallel()
	disk := mount(t, "ext2", 8<<20)
	n := newRig(t).node
	n.change = func(c *forward.Config) { c.Allowed = n.allow(disk + "/**") }
	path := filepath.Join(disk, "app.log")
	n.logs[0].Path = path
	inode := func() uint64 {
		var st syscall.Stat_t
		n.must(syscall.Stat(path, &st))
		return st.Ino
	}
	first, second := text("first", 100<<10), text("second", 120<<10)
	n.must(os.WriteFile(path, first, 0o644))
	n.start()
	n.exact("app", first)
	was := inode()
	n.stop() // else the node holds the file, and its inode with it
	n.must(os.Remove(path))
	n.must(os.WriteFile(path, second, 0o644))
	if is := inode(); is != was {
		t.Skipf("inode %d, not %d again", is, was)
	}
	n.start()
	// All that was known of the first file is central; that nothing more was in it nobody knows.
	n.exact("app", join(first, second), loss{"not found after a restart", -1})
	for _, e := range n.ledger("app") {
		if e.Event == receive.EventGap && e.To-e.From != 1 {
			t.Errorf("the gap takes %d positions", e.To-e.From)
		}
	}
}

func TestManySmallFiles(t *testing.T) {
	t.Parallel()
	n := newRig(t, func(r *rig) { r.pace = 200 * time.Millisecond }).node
	n.change = func(c *forward.Config) {
		c.Limits.SyncInterval, c.Limits.Checkpoint, c.Limits.Poll = time.Second, 100*time.Millisecond, 200*time.Millisecond
	}
	n.logs = nil
	const many = 1000
	name := func(i int) string { return fmt.Sprintf("small%04d", i) }
	content := func(i int) []byte { return fmt.Appendf(nil, "the only line of %s\n", name(i)) }
	for i := range many {
		n.write(name(i)+".log", content(i))
		n.logs = append(n.logs, n.entry(name(i)))
	}
	n.start()
	n.eventually("all of them", func() error {
		done := 0
		for _, s := range n.engine.Status() {
			if s.State == forward.Idle && s.LagBytes == 0 && s.Confirmed == s.Position && s.Position > 0 {
				done++
			}
		}
		if done < many {
			return fmt.Errorf("%d of %d logs", done, many)
		}
		return nil
	})
	n.round()
	check := func(i int) {
		t.Helper()
		if i%50 == 0 {
			n.must(n.central(name(i), content(i), nil))
			return
		}
		// So small a log is one file. To put it together from the ledgers means a look at the whole directory each time.
		path := filepath.Join(n.receiving.Output, identity, name(i))
		got, err := os.ReadFile(path + ".log")
		n.must(err)
		ledger, err := receive.Ledger(path + "@ledger.jsonl")
		n.must(err)
		if !bytes.Equal(got, content(i)) || len(ledger) != 2 {
			t.Fatalf("%s: %q, ledger %+v", name(i), got, ledger)
		}
	}
	for i := range many {
		check(i)
	}
	// They are as many logs again after a crash, and one that grows still does.
	n.crash()
	n.write(name(7)+".log", []byte("and one more\n"))
	n.start()
	n.exact(name(7), append(content(7), "and one more\n"...))
	for i := range many {
		if i != 7 {
			check(i)
		}
	}
}
