package tail

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const logrotateProgram = "/usr/sbin/logrotate"

// TestLogrotate lets the real logrotate rotate, while the log is followed, while
// it is behind and while it is down.
func TestLogrotate(t *testing.T) {
	if _, err := os.Stat(logrotateProgram); err != nil {
		t.Skipf("%s isn't installed", logrotateProgram)
	}
	for _, options := range []string{
		"create", "copytruncate", "create compress", "create compress delaycompress", "copytruncate compress",
		"copytruncate compress delaycompress", "create dateext dateformat -%s", "create dateext dateformat -%s compress",
		"nocreate", "create compress compresscmd /usr/bin/xz compressext .xz", "create extension .log", "create dateext dateformat -%s extension .log",
	} {
		for _, mode := range []string{"running", "behind", "down"} {
			t.Run(options+"/"+mode, func(t *testing.T) {
				r := newRig(t).open()
				conf, state := r.name("conf"), r.name("logrotate.state")
				r.must(os.Chmod(r.dir, 0o755))
				r.must(os.WriteFile(conf, []byte(fmt.Sprintf("%s {\n\tsu root root\n\trotate 20\n\t%s\n}\n",
					r.path, strings.NewReplacer(" dateext", "\n\tdateext", " dateformat", "\n\tdateformat", " compresscmd", "\n\tcompresscmd",
						" compressext", "\n\tcompressext", " compress", "\n\tcompress", " delay", "\n\tdelay", " extension", "\n\textension").Replace(options))), 0o644))
				var want strings.Builder
				for i := range 4 {
					s := lines(fmt.Sprint("round ", i), 200+i)
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
						r.save()
						r.crash()
					}
					r.write("app.log", s[half:])
					if mode == "running" && i%2 == 0 {
						r.drain()
					}
					if strings.Contains(options, "%s") {
						r.aSecondLater()
					}
					cmd := exec.Command(logrotateProgram, "-f", "-s", state, conf)
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Fatalf("logrotate: %v: %s", err, out)
					}
					switch mode {
					case "running":
						r.drain()
					case "down":
						r.open()
						r.out, r.pieces = nil, nil
					}
				}
				r.write("app.log", "the end\n")
				r.buf = make([]byte, 64<<10)
				r.drain()
				r.want(want.String() + "the end\n")
				r.wantLosses(0)
			})
		}
	}
}

// aSecondLater makes the rotated files of this second a second older in name, as
// logrotate refuses to write to one that exists.
func (r *rig) aSecondLater() {
	r.t.Helper()
	list, err := os.ReadDir(r.dir)
	r.must(err)
	for _, e := range list {
		name := e.Name()
		mark, _, ok := rotationMark(name, "app.log")
		if !ok || len(mark) != 11 || mark[0] != '-' {
			continue
		}
		var n int64
		if _, err := fmt.Sscanf(mark, "-%d", &n); err != nil {
			continue
		}
		older := strings.Replace(name, fmt.Sprint(n), fmt.Sprint(n-10), 1)
		r.rename(name, older)
	}
}
