package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager listens as systemd does.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify-") // a test's own directory may have a name too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{t: t, path: filepath.Join(dir, "notify")}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// hears waits for a message that begins so, past those of the watchdog.
func (m *manager) hears(text string) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("waiting for %s: %v", text, err)
		}
		got := string(buf[:n])
		if strings.HasPrefix(got, text) {
			return got
		}
		if got != "WATCHDOG=1" {
			m.t.Fatalf("%q in place of %s", got, text)
		}
	}
}

// starts the program under this manager, with a watchdog of a fifth of a second.
func (m *manager) start(args ...string) *process {
	m.t.Helper()
	return startAs(m.t, "1", args, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=200000")
}

func TestSystemdIsToldHowAForwarderIs(t *testing.T) {
	t.Parallel()
	s, m := newSite(t), newManager(t)
	s.startBroker()
	p := m.start("forward", "--config", s.config)
	m.hears("READY=1")
	for range 3 {
		m.hears("WATCHDOG=1")
	}
	s.append("late.log", "a line\n")
	s.define("late", "log: late\npath: LOGS/late.log\nstart: beginning\n")
	p.signal(syscall.SIGHUP)
	if got := m.hears("RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("reloading, but not since when: %q", got)
	}
	m.hears("READY=1")
	var l struct{ Forwarders []struct{ Log string } }
	s.ask(&l, "list")
	if len(l.Forwarders) != 1 || l.Forwarders[0].Log != "late" {
		t.Errorf("ready again before what was defined is in force: %+v", l)
	}
	p.signal(term())
	m.hears("STOPPING=1")
	if code := p.ended(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSystemdIsToldHowAReceiverIs(t *testing.T) {
	t.Parallel()
	s, m := newSite(t), newManager(t)
	// A receiver is ready also where the broker isn't: it goes on trying.
	p := m.start("receive", "--url", s.url, "--output", s.output, "--state", s.dir+"/receive", "--receiver", "r1")
	m.hears("READY=1")
	m.hears("WATCHDOG=1")
	m.hears("WATCHDOG=1")
	p.signal(term())
	m.hears("STOPPING=1")
	if code := p.ended(time.Minute); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A daemon in which something hangs doesn't say that it is alive.
func TestWatchdogIsSilentWhereADaemonHangs(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	ctx, cancel := context.WithCancel(t.Context())
	hang, hangs, asked := make(chan struct{}), make(chan struct{}), 0
	w := &service{log: slog.New(slog.DiscardHandler), alive: func() {
		if asked++; asked == 3 {
			close(hangs)
			<-hang
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); w.watch(ctx, time.Millisecond) }()
	m.hears("WATCHDOG=1")
	m.hears("WATCHDOG=1")
	<-hangs
	if err := m.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := m.conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes from a daemon that hangs", n)
	}
	cancel()
	close(hang)
	<-done
}
