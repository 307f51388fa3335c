package pipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guide gives the blocks of a language in a section of docs/cluster.md, which has so many of them.
func guide(t *testing.T, section, language string, want int) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "\n"+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	text, _, _ = strings.Cut(text, "\n### ")
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) != want {
		t.Fatalf("%q has %d blocks of %s, not %d", section, len(blocks), language, want)
	}
	return blocks
}

// What the guide says about clusters is done, command by command: a cluster of three servers as it configures them, three
// receivers, the maintenance of one, the loss of another one's disk, other partitions, and a site behind a leaf node.
func TestGuideToClusters(t *testing.T) {
	t.Parallel()
	const (
		cluster, several, lost = "## A cluster of NATS servers", "## Several receivers", "### A receiver's disk is lost"
		changing, leaf         = "## Changing partitions and replicas on a living system", "## A leaf node: a site behind a firewall"
	)
	m := newTeam(t, 2, 1, false)
	server, receiver := guide(t, cluster, "conf", 1)[0], guide(t, cluster, "ini", 1)[0]
	leaves := guide(t, leaf, "conf", 2)
	routes := map[string]string{}
	for i := range teamServers {
		for _, port := range []string{"6222", "7422"} {
			routes[fmt.Sprintf("n%d:%s", i+1, port)] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		}
	}
	var named []string
	for name, address := range routes {
		named = append(named, "//"+name, "//"+address)
	}
	leafPort := freePort(t)
	for i := range teamServers {
		own := fmt.Sprintf("n%d", i+1)
		words := append([]string{
			"server_name: n1", "server_name: " + own, "0.0.0.0:4222", fmt.Sprintf("127.0.0.1:%d", m.ports[i]), "/var/lib/nats", m.path("store" + own),
			"0.0.0.0:6222", routes[own+":6222"], "0.0.0.0:7422", routes[own+":7422"],
		}, named...)
		m.write(own+".conf", strings.NewReplacer(words...).Replace(server+leaves[1]))
		m.startServer(i)
		own = fmt.Sprintf("r%d", i+1)
		m.write(own+".cfg", strings.NewReplacer("nats://n1:4222, nats://n2:4222, nats://n3:4222", m.urls(), "receiver = r1", "receiver = "+own, "/srv/logs", m.output(i)).Replace(receiver)+
			"state = "+m.path("state-"+own)+"\ncommit_interval = 200ms\nlease_interval = 300ms\nlease_timeout = 1500ms\n")
	}
	m.leader()

	bin := m.path("bin")
	m.must(os.MkdirAll(bin, 0o755))
	// do does a block line by line, with a settings' file, and gives what each line wrote to standard output, and its exit code.
	do := func(config, block string, words []string, systemctl func(what string)) (printed []string, codes []int) {
		t.Helper()
		m.must(os.WriteFile(filepath.Join(bin, "logforward"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\" --config %s\n", binary, m.path(config)), 0o755))
		for _, line := range strings.Split(strings.TrimSpace(strings.NewReplacer(words...).Replace(block)), "\n") {
			if what, is := strings.CutPrefix(strings.TrimSpace(line), "systemctl "); is {
				systemctl(what)
				printed, codes = append(printed, ""), append(codes, 0)
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			cmd := exec.CommandContext(ctx, "sh", "-c", line)
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.Output()
			cancel()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatalf("%s: %v", line, err)
			} else if err != nil {
				t.Logf("%s: %s", line, exit.Stderr)
			}
			printed, codes = append(printed, string(out)), append(codes, cmd.ProcessState.ExitCode())
		}
		return printed, codes
	}
	well := func(what string, codes []int, want ...int) {
		t.Helper()
		if fmt.Sprint(codes) != fmt.Sprint(want) {
			t.Fatalf("%s ends with %d, not %d", what, codes, want)
		}
	}
	words := []string{"web1.example.net/nginx-access", "web0.example.net/app0", "/var/log/app.log", m.logPath(0, 0), "--partitions 16", "--partitions 5",
		"/mnt/r1,/mnt/r2,/mnt/r3", strings.Join(m.outputs(), ",")}
	alive := func(name string, want bool) {
		t.Helper()
		m.eventually(fmt.Sprintf("%s to live: %v", name, want), patience, func() error {
			o, err := m.overview()
			if err != nil {
				return err
			}
			if r := o.Receiver(name); r == nil || r.Alive != want || want && len(r.Partitions) == 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	}

	_, codes := do("r1.cfg", guide(t, cluster, "sh", 1)[0], words, func(string) {
		for i := range teamReceivers {
			m.startReceiver(i)
		}
	})
	well(cluster, codes, 0, 0, 0, 0)
	for _, name := range []string{"r1", "r2", "r3"} {
		alive(name, true)
	}
	m.startNode(0)
	want := []byte(strings.Repeat("a line of a log\n", 1000))
	m.must(os.WriteFile(m.logPath(0, 0), want, 0o644))
	m.eventually("the log to arrive", patience, func() error { return m.compareAt(0, 0, want) })

	work := guide(t, several, "sh", 2)
	_, codes = do("r1.cfg", work[0], words, func(what string) {
		if strings.HasPrefix(what, "stop") {
			m.kill("r2", syscall.SIGTERM)
		} else {
			m.startReceiver(1)
		}
	})
	well(several, codes, 0, 0, 0, 0)
	alive("r2", true)
	var printed []string
	m.eventually("the record to prove it", patience, func() error { // a range that is written to has a digest with the next commit
		if printed, codes = do("r1.cfg", work[1], words, nil); fmt.Sprint(codes) != "[0 0 0 0 0]" || !strings.Contains(printed[4], "intact") {
			return fmt.Errorf("%d %q", codes, printed)
		}
		return nil
	})
	if printed[3] != string(want) {
		t.Errorf("cat gives %d bytes, not %d", len(printed[3]), len(want))
	}

	// The disk of whoever had the log is lost: r3, in the guide.
	l := strings.Fields(strings.Split(strings.TrimSpace(printed[1]), "\n")[3])
	gone, left := l[3], []string(nil)
	for i := range teamReceivers {
		if name := fmt.Sprintf("r%d", i+1); name != gone {
			left = append(left, m.output(i))
		}
	}
	m.kill(gone, syscall.SIGKILL)
	alive(gone, false)
	loss := guide(t, lost, "sh", 2)
	printed, codes = do("r1.cfg", loss[0], append([]string{"/mnt/r1,/mnt/r2", strings.Join(left, ","), "r3", gone}, words...), nil)
	well(lost, codes, 0, 1, 0)
	if !strings.Contains(printed[1], `"damaged": 16000`) || !strings.Contains(printed[2], " "+gone+" ") {
		t.Errorf("%s isn't missed: %s", gone, printed)
	}
	_, codes = do("node0.cfg", loss[1], words, nil)
	well("sending it again", codes, 0)
	again := func() error {
		out, err := m.output2("cat", "web0.example.net/app.again", "--output", strings.Join(left, ","))
		if err == nil && string(out) != string(want) {
			err = fmt.Errorf("%d bytes", len(out))
		}
		return err
	}
	m.eventually("the log to come again", patience, again)

	printed, codes = do("r1.cfg", guide(t, changing, "sh", 1)[0], words, nil)
	well(changing, codes, 0, 0, 0)
	if !strings.Contains(printed[1], "partitions 4, replicas 3 -> prefix logs, partitions 5, replicas 3") || !strings.Contains(printed[2], "everything is as it should be") {
		t.Errorf("partitions: %q", printed)
	}

	m.write("leaf.conf", strings.NewReplacer(append([]string{"0.0.0.0:4222", fmt.Sprintf("127.0.0.1:%d", leafPort)}, named...)...).Replace(leaves[0]))
	self, err := os.Executable()
	m.must(err)
	m.launch("leaf", []string{"LOGFORWARD_TEST_SERVER=" + m.path("leaf.conf")}, self)
	config, err := os.ReadFile(m.path("node1.cfg"))
	m.must(err)
	m.write("node1.cfg", strings.Replace(string(config), strings.Join(m.urlsOf("nodes"), ", "), fmt.Sprintf("nats://127.0.0.1:%d", leafPort), 1))
	m.must(os.WriteFile(m.logPath(1, 0), want, 0o644))
	m.eventually("all to be in order behind the leaf node", patience, func() error {
		out, err := m.run("validate", "--config", m.path("node1.cfg"))
		if err == nil && !strings.Contains(out, "as behind a leaf node") {
			err = errors.New("it doesn't say where it is")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	m.startNode(1)
	m.eventually("the log of the site to arrive", time.Minute, func() error { return m.compareAt(1, 0, want) })
}
