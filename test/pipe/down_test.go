package pipe

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"logforward/internal/tail"
)

// TestRotationWhileTheNodeIsDown rotates what wasn't read yet, and has it compressed, before the node starts again.
func TestRotationWhileTheNodeIsDown(t *testing.T) {
	for _, c := range []struct {
		name     string
		compress []string // of the rotated file
		crash    bool
	}{
		{"renamed", nil, false},
		{"renamed, after a crash", nil, true},
		{"gzip", []string{"gzip"}, false},
		{"gzip, after a crash", []string{"gzip"}, true},
		{"zstd", []string{"zstd", "-q", "--rm"}, false},
		{"bzip2", []string{"bzip2"}, false},
		{"xz", []string{"xz"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, want := began(t)
			unread := text("unread", 90<<10)
			if c.crash {
				n.crash()
			} else {
				n.stop()
			}
			n.write("app.log", unread)
			n.rename("app.log", "app.log.1")
			if len(c.compress) > 0 {
				command(t, c.compress[0], append(c.compress[1:], n.path("app.log.1"))...)
			}
			live := text("live", 10<<10)
			n.write("app.log", live)
			n.start()
			want = join(want, unread, live)
			n.exact("app", want)
			n.write("app.log", []byte("end\n"))
			n.exact("app", join(want, []byte("end\n")))
		})
	}
}

func TestThreeRotationsWhileTheNodeIsDown(t *testing.T) {
	for _, compress := range []string{"", "gzip"} {
		t.Run("compress "+compress, func(t *testing.T) {
			n, want := began(t)
			n.stop()
			for i := range 3 {
				b := text(fmt.Sprint("round", i), 40<<10)
				n.write("app.log", b)
				want = join(want, b)
				for k := 3; k > 0; k-- {
					for _, ending := range []string{"", ".gz"} {
						err := os.Rename(n.path(fmt.Sprintf("app.log.%d%s", k, ending)), n.path(fmt.Sprintf("app.log.%d%s", k+1, ending)))
						if err != nil && !os.IsNotExist(err) {
							t.Fatal(err)
						}
					}
				}
				n.rename("app.log", "app.log.1")
				if compress != "" {
					command(t, compress, n.path("app.log.1"))
				}
			}
			live := text("live", 10<<10)
			n.write("app.log", live)
			n.start()
			n.exact("app", join(want, live))
		})
	}
}

// TestLogrotate lets the real logrotate rotate, while a writer reopens its file at once, or goes on in the old
// one for a while.
func TestLogrotate(t *testing.T) {
	const program = "/usr/sbin/logrotate"
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%s isn't installed", program)
	}
	for _, options := range []string{
		"create", "copytruncate", "create compress", "create compress delaycompress",
		"copytruncate compress", "create dateext dateformat -%s", "create dateext dateformat -%s compress",
	} {
		for _, reopens := range []bool{true, false} {
			name := strings.ReplaceAll(options, " dateformat -%s", "")
			if !reopens {
				if strings.HasSuffix(options, "compress") && !strings.Contains(options, "delay") || strings.HasPrefix(options, "copy") {
					continue // the writer's late bytes are logrotate's to lose, or there is nothing to reopen
				}
				name += ", the writer goes on in the old file"
			}
			t.Run(name, func(t *testing.T) {
				n, want := began(t)
				conf, state := n.path("conf"), n.path("logrotate.state")
				n.must(os.Chmod(n.dir, 0o755))
				lines := strings.NewReplacer(" dateext", "\ndateext", " dateformat", "\ndateformat", " compress", "\ncompress", " delay", "\ndelay").Replace(options)
				n.must(os.WriteFile(conf, fmt.Appendf(nil, "%s {\nsu root root\nrotate 20\n%s\n}\n", n.path("app.log"), lines), 0o644))
				for i := range 3 {
					before, late, after := text(fmt.Sprint("before", i), 20<<10), text(fmt.Sprint("late", i), 2<<10), text(fmt.Sprint("after", i), 9<<10)
					w, err := os.OpenFile(n.path("app.log"), os.O_APPEND|os.O_WRONLY, 0)
					n.must(err)
					_, err = w.Write(before)
					n.must(err)
					want = join(want, before)
					if i%2 == 0 {
						n.exact("app", want) // else it is rotated while it is behind
					}
					if strings.Contains(options, "dateext") {
						n.olderDates()
					}
					if out, err := exec.Command(program, "-f", "-s", state, conf).CombinedOutput(); err != nil {
						t.Fatalf("logrotate: %v: %s", err, out)
					}
					if !reopens {
						_, err = w.Write(late)
						n.must(err)
						want = join(want, late)
						n.exact("app", want)
					}
					n.must(w.Close())
					n.write("app.log", after)
					want = join(want, after)
					if strings.HasPrefix(options, "copytruncate") {
						n.exact("app", want) // truncated twice between two looks is one of the known limits
					}
				}
				n.exact("app", want)
			})
		}
	}
}

// olderDates makes rotated files ten seconds older by name: logrotate writes to none that exists, and dates them by the second.
func (n *node) olderDates() {
	n.t.Helper()
	list, err := os.ReadDir(n.dir)
	n.must(err)
	for _, e := range list {
		var at int64
		if _, err := fmt.Sscanf(e.Name(), "app.log-%d", &at); err != nil {
			continue
		}
		n.rename(e.Name(), strings.Replace(e.Name(), fmt.Sprint(at), fmt.Sprint(at-10), 1))
	}
}

// TestConfirmedFileGoneAfterACrash: a node dies before it hears what is confirmed, and a rotated file of which all was sent is removed
// meanwhile. The centre knows better: nothing is lost, nothing comes twice, also where it answers late.
func TestConfirmedFileGoneAfterACrash(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"the centre answers": false, "the centre is away": true, "the centre takes its time": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(r *rig) {
				if name == "the centre takes its time" {
					r.receiving.CommitInterval = time.Second // most of what the node waits for without a sign
				}
			})
			n := r.node
			a, b, c, d := text("a", 60<<10), text("b", 50<<10), text("c", 30<<10), text("d", 20<<10)
			n.write("app.log", a)
			n.start()
			n.exact("app", a)
			r.stopReceiver()
			n.write("app.log", b)
			n.rename("app.log", "app.log.1")
			n.write("app.log", c)
			n.stored("app", len(a)+len(b)+len(c))
			n.crash()
			n.remove("app.log.1")
			n.write("app.log", d)
			if !late {
				r.startReceiver()
				n.eventually("all that was sent to be central", func() error { return n.bytes("app", join(a, b, c)) })
			}
			n.start()
			if late {
				n.eventually("the gap to wait", func() error {
					if s := n.status("app"); !strings.Contains(s.LastError, "files of an earlier run are gone") {
						return fmt.Errorf("%s %q", s.State, s.LastError)
					}
					return nil
				})
				r.startReceiver()
			}
			n.exact("app", join(a, b, c, d))
			if e := n.epochs("app"); len(e) != 1 {
				t.Errorf("epochs %d", e)
			}
		})
	}
}

// TestConfirmedFilesAllGoneAfterACrash: nothing is left by which the centre's place could be proved. What was sent is there once, and gaps say
// that nobody knows whether there was more.
func TestConfirmedFilesAllGoneAfterACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.node
	a, b, c, d := text("a", 60<<10), text("b", 50<<10), text("c", 30<<10), text("d", 20<<10)
	n.write("app.log", a)
	n.start()
	n.exact("app", a)
	r.stopReceiver()
	n.write("app.log", b)
	n.rename("app.log", "app.log.1")
	n.write("app.log", c)
	n.stored("app", len(a)+len(b)+len(c))
	n.crash()
	n.remove("app.log.1")
	n.remove("app.log")
	n.write("app.log", d)
	r.startReceiver()
	n.eventually("all that was sent to be central", func() error { return n.bytes("app", join(a, b, c)) })
	n.start()
	gone := loss{tail.NotFound, -1}
	n.eventually("app to arrive", func() error {
		err := n.compare("app", join(a, b, c, d), []loss{gone, gone}) // of each file
		if err != nil {
			err = n.compare("app", join(a, b, c, d), []loss{gone}) // where the centre's place was that of the last one
		}
		return err
	})
}
