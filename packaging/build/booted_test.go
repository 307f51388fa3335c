package main

import (
	"context"
	"os"
	"strings"
	"testing"
)

// boot makes a root as layer does, installs a package there, and has systemd as process 1: with the units of the package and no
// others, for what the machine's own do at a boot is none of a test's business. It can change nothing of the kernel.
const boot = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for d in run tmp dev; do mount -t tmpfs tmpfs $d; done
for d in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 dev/${d%:*} c 1 ${d#*:}; done
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
ip link set lo up 2>/dev/null || true
cp "$2" tmp/logforward.deb
SYSTEMD_OFFLINE=1 chroot . dpkg -i /tmp/logforward.deb >&2
rm -rf etc/systemd/system
mkdir -p etc/systemd/system
ln -s /dev/null etc/systemd/system/network-online.target
printf '[Unit]\nDefaultDependencies=no\n' > etc/systemd/system/test.target
for u in forward receive; do
	mkdir etc/systemd/system/logforward-$u.service.d
	printf '[Unit]\nDefaultDependencies=no\n[Service]\nStandardOutput=append:/run/%s.log\nStandardError=append:/run/%s.log\nWatchdogSec=3s\nTimeoutAbortSec=1s\nRestartSec=100ms\n' $u $u > etc/systemd/system/logforward-$u.service.d/test.conf
done
echo ready
# Not a chroot: systemd moves the root of what it starts.
: > dev/console
pivot_root . mnt
exec chroot . sh -c 'umount -l /mnt; : > /run/moved; exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=false >&2'
`

// The units as they are packaged, under a real systemd: they start, hardened as they are they read what only root may read, say
// when they are ready, and one that hangs or crashes is started again.
func TestUnitsUnderARealSystemd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for namespaces: the units are not started")
	}
	file := deb(t, newer)
	r := begin(t, []string{"--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net"}, boot, file)
	r.eventually("systemd to be up", func() bool { _, code := r.try("systemctl", "is-active", "test.target"); return code == 0 })

	t.Cleanup(func() {
		if t.Failed() {
			out, err := r.command(context.Background(), "sh", "-c", "systemctl status --no-pager 'logforward-*'; tail -n 20 /run/*.log; tail -n 20 /dev/console").CombinedOutput()
			t.Logf("%s%v", out, err)
		}
	})

	const url = "nats://127.0.0.1:4222"
	r.put("/etc/choria/plugin.d/logforward.cfg", "identity = n1.example.net\npolicy = peers\ndestination.central.url = "+url+"\n", 0o644)
	r.put("/etc/choria/logforward/forwarders.d/app.yaml", "log: app\npath: /var/log/app.log\nstart: beginning\n", 0o644)
	r.put("/var/log/app.log", "only root may read this\n", 0o600)
	r.sh("printf 'url = " + url + "\\nrotate_every = 0\\n' >> /etc/logforward/receive.cfg") // over midnight the log stays one file
	broker := r.command(t.Context(), "/usr/bin/logforward", "broker", "--listen", "127.0.0.1:4222", "--store", "/tmp/broker")
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	r.eventually("streams", func() bool { _, code := r.try("logforward", "setup"); return code == 0 })
	units := []string{"logforward-receive.service", "logforward-forward.service"}
	for _, unit := range units {
		if out, code := r.try("systemctl", "start", unit); code != 0 {
			t.Fatalf("%s: %s%s", unit, out, r.sh("systemctl status --no-pager "+unit+" || true; cat /run/*.log"))
		}
	}
	r.eventually("the log to arrive", func() bool {
		out, _ := r.try("cat", "/var/lib/logforward/received/n1.example.net/app.log")
		return out == "only root may read this\n"
	})
	property := func(unit, name string) string {
		t.Helper()
		return strings.TrimSpace(r.must("systemctl", "show", "--property", name, "--value", unit))
	}
	for _, unit := range units {
		if out := property(unit, "Type") + " " + property(unit, "ActiveState") + " " + property(unit, "StatusErrno"); out != "notify active 0" {
			t.Errorf("%s: %s", unit, out)
		}
		pid := property(unit, "MainPID")
		if out := r.sh("ps -o user:32= -p " + pid + "; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/" + pid + "/status"); !strings.Contains(out, strings.TrimSuffix(strings.Replace(unit, "-forward", "", 1), ".service")+"\n") ||
			!strings.Contains(out, "NoNewPrivs:\t1") || !strings.Contains(out, "Seccomp:\t2") || strings.Contains(out, "CapEff:\t0000000000000004") != (unit == units[1]) {
			t.Errorf("%s runs as %s", unit, out)
		}
	}
	if out := r.must("logforward", "validate"); strings.Contains(out, "failed") || !strings.Contains(out, "logforward may read all 1 files") || !strings.Contains(out, "of 65536 are needed") {
		t.Errorf("%s", out)
	}

	// A reload is obeyed by the same process.
	main := property(units[1], "MainPID")
	r.put("/etc/choria/logforward/forwarders.d/more.yaml", "log: more\npath: /var/log/more.log\n", 0o644)
	r.must("systemctl", "reload", units[1])
	r.eventually("the definition to be in force", func() bool { return strings.Contains(r.must("logforward", "list"), "more ") })
	if out := property(units[1], "ActiveState") + " " + property(units[1], "MainPID"); out != "active "+main {
		t.Errorf("after a reload: %s, was %s", out, main)
	}

	// One that hangs is ended by the watchdog, and it and one that crashes, as Go programs do with status 2, are started again, and go on where they
	// were.
	for i, signal := range []string{"-STOP", "-ABRT"} {
		for _, unit := range units {
			before := property(unit, "MainPID")
			r.must("kill", signal, before)
			r.eventually(unit+" to be started again after "+signal, func() bool {
				now := property(unit, "MainPID")
				return now != before && now != "0" && property(unit, "ActiveState") == "active"
			})
			if out := property(unit, "NRestarts"); out != itoa(i+1) {
				t.Errorf("%s was started again %s times", unit, out)
			}
		}
	}
	r.sh("echo later >> /var/log/app.log")
	r.eventually("the rest to arrive", func() bool {
		out, _ := r.try("cat", "/var/lib/logforward/received/n1.example.net/app.log")
		return out == "only root may read this\nlater\n"
	})

	elsewhere(r, units)

	// Settings that it can't start with don't have it started again and again.
	r.sh("echo 'nonsense = 1' >> /etc/choria/plugin.d/logforward.cfg")
	if _, code := r.try("systemctl", "restart", units[1]); code == 0 {
		t.Error("it starts with settings that there aren't")
	}
	if out := property(units[1], "ActiveState") + " " + property(units[1], "ExecMainStatus") + " " + property(units[1], "NRestarts"); out != "failed 78 0" {
		t.Errorf("with settings that there aren't: %s", out)
	}
}

// elsewhere: a daemon that is to write where its unit doesn't let it doesn't start, instead of writing to a place that is gone when it ends; with the
// additions that Puppet makes it does.
func elsewhere(r *root, units []string) {
	r.Helper()
	receiver, forwarder := units[0], units[1]
	lines := 0
	for _, x := range []struct{ unit, settings, directory, addition string }{
		{forwarder, "state = /srv/it's a state\n", "/srv/it's a state", "ReadWritePaths=\"/srv/it's a state\"\n"},
		{receiver, "state = /home/lf/state\n", "/home/lf/state", "ReadWritePaths=\"/home/lf/state\"\nProtectHome=read-only\n"},
		{receiver, "output = /var/tmp/received\n", "/var/tmp/received", "ReadWritePaths=\"/var/tmp/received\"\nTemporaryFileSystem=\n"},
	} {
		user, file := "logforward", "/etc/choria/plugin.d/logforward.cfg"
		if x.unit == receiver {
			user, file = "logforward-receive", "/etc/logforward/receive.cfg"
		}
		before := r.get(file)
		after := before + x.settings
		if strings.HasPrefix(x.settings, "output") {
			after = strings.ReplaceAll(before, "\noutput = ", "\n#output = ") + x.settings
		}
		r.put(file, after, 0o640) // its owner and group stay
		r.must("install", "-d", "-m", "0750", "-o", user, "-g", user, "--", x.directory)
		if _, code := r.try("systemctl", "restart", x.unit); code == 0 {
			r.Errorf("with %s%s starts, though its unit doesn't let it write there", x.settings, x.unit)
		}
		_, _ = r.try("systemctl", "stop", x.unit)
		_, _ = r.try("systemctl", "reset-failed", x.unit)
		addition := "/etc/systemd/system/" + x.unit + ".d/paths.conf"
		r.put(addition, "[Service]\n"+x.addition, 0o644)
		r.must("systemctl", "daemon-reload")
		if out, code := r.try("systemctl", "restart", x.unit); code != 0 {
			r.Errorf("with %s%s doesn't start: %s", x.settings, x.unit, out)
		}
		lines++
		line := "elsewhere " + itoa(lines) + "\n"
		r.sh("printf '" + line + "' >> /var/log/app.log")
		r.eventually("a line to arrive with "+x.settings, func() bool {
			out, _ := r.try("sh", "-c", "cat /var/tmp/received/n1.example.net/app*.log /var/lib/logforward/received/n1.example.net/app*.log")
			return strings.Contains(out, line)
		})
		if out := r.must("find", x.directory, "-type", "f"); out == "" {
			r.Errorf("with %sthere is nothing in %s", x.settings, x.directory)
		}
		r.put(file, before, 0o640)
		r.must("rm", addition)
		r.must("systemctl", "daemon-reload")
		r.must("systemctl", "restart", x.unit)
	}
}
