package tail

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// logrotates runs the real logrotate with options, one a line.
func (r *rig) logrotates(options string) {
	r.t.Helper()
	if _, err := os.Stat(logrotateProgram); err != nil {
		r.t.Skipf("%s isn't installed", logrotateProgram)
	}
	conf := r.name("conf")
	r.must(os.Chmod(r.dir, 0o755))
	r.must(os.WriteFile(conf, []byte(r.path+" {\n\tsu root root\n"+options+"\n}\n"), 0o644))
	if out, err := exec.Command(logrotateProgram, "-f", "-s", r.name("logrotate.state"), conf).CombinedOutput(); err != nil {
		r.t.Fatalf("logrotate: %v: %s", err, out)
	}
}

// TestLogrotateRareOptions is TestLogrotate with what few configure. What is lost is what logrotate deletes while nobody has it open.
func TestLogrotateRareOptions(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		lost    string // modes in which logrotate takes away what wasn't read
	}{
		"renamecopy":                 {"rotate 20\nrenamecopy\ncreate", ""},
		"renamecopy, compressed":     {"rotate 20\nrenamecopy\ncreate\ncompress", ""},
		"shred":                      {"rotate 20\nshred\ncreate\ncompress", ""},
		"shred, all of it":           {"rotate 20\nshred\nshredcycles 1\ncreate\ncompress", ""},
		"shred what is too old":      {"rotate 2\nshred\ncreate", "behind"},
		"numbers from 0":             {"rotate 20\nstart 0\ncreate", ""},
		"numbers from 0, compressed": {"rotate 20\nstart 0\ncreate\ncompress", ""},
		"none kept":                  {"rotate 0\ncreate", "down"},
		"none kept, copytruncate":    {"rotate 0\ncopytruncate", "down behind"},
		"none kept, shredded":        {"rotate 0\nshred\ncreate", "down behind"},
		"maxage":                     {"rotate 20\nmaxage 1\ncreate", ""},
		"zstd":                       {"rotate 20\ncreate\ncompress\ncompresscmd /usr/bin/zstd\ncompressoptions -q --rm\ncompressext .zst", ""},
		"bzip2":                      {"rotate 20\ncreate\ncompress\ncompresscmd /usr/bin/bzip2\ncompressext .bz2", ""},
		"another compression":        {"rotate 20\ncreate\ncompress\ncompresscmd /usr/bin/base64\ncompressext .b64", "down"},
		"copy":                       {"rotate 20\ncopy", ""},
		"mode 0200":                  {"rotate 20\ncreate 0200 root root", ""},
		"signals late":               {"rotate 20\ncreate\nsharedscripts\npostrotate\necho late >> LOG.1\nendscript", ""},
		"signals late, compressed":   {"rotate 20\ncreate\ncompress\nsharedscripts\npostrotate\necho late >> LOG.1\nendscript", ""},
		"writes on, copytruncate":    {"rotate 20\ncopytruncate\npostrotate\necho late >> LOG\nendscript", ""},
	} {
		for _, mode := range []string{"running", "behind", "down"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				for _, line := range strings.Split(c.options, "\n") {
					if program, ok := strings.CutPrefix(line, "compresscmd "); ok {
						if _, err := os.Stat(program); err != nil {
							t.Skipf("%s isn't installed", program)
						}
					}
				}
				r := newRig(t).open()
				var want strings.Builder
				for i := range 4 {
					s := lines(fmt.Sprint(name, " ", i), 200+i)
					if i > 0 && name == "copy" {
						break // the same file goes on, and is copied again
					}
					if strings.Contains(c.options, "late >> LOG\n") && i > 0 {
						want.WriteString("late\n")
					}
					want.WriteString(s)
					half := len(s) / 2
					r.write("app.log", s[:half])
					switch mode {
					case "running":
						r.drain()
					case "behind":
						_ = r.log.Look()
						r.buf = make([]byte, 100)
						r.step()
					case "down":
						r.drain()
						r.release()
						r.save()
						r.crash()
					}
					r.write("app.log", s[half:])
					if mode == "running" {
						r.drain()
					}
					r.logrotates(strings.ReplaceAll(c.options, "LOG", r.path))
					if strings.Contains(c.options, "late >> LOG.1") {
						want.WriteString("late\n")
					}
					switch mode {
					case "running":
						r.drain()
					case "down":
						r.open()
						r.drain()
					}
				}
				if strings.Contains(c.options, "late >> LOG\n") {
					want.WriteString("late\n")
				}
				r.write("app.log", "the end\n")
				r.buf = make([]byte, 64<<10)
				r.drain()
				want.WriteString("the end\n")
				if !strings.Contains(c.lost, mode) || mode == "running" {
					r.want(want.String())
					r.wantLosses(0)
					return
				}
				if len(r.losses) == 0 || !isSubsequence(string(r.out), want.String()) || !strings.HasSuffix(string(r.out), "the end\n") {
					t.Fatalf("got %s\nlosses %+v", brief(r.out), r.losses)
				}
			})
		}
	}
}

// isSubsequence says that a is b with something left out.
func isSubsequence(a, b string) bool {
	for ; a != ""; a = a[1:] {
		i := strings.IndexByte(b, a[0])
		if i < 0 {
			return false
		}
		b = b[i+1:]
	}
	return true
}
