package broker_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"logforward/internal/broker"
)

func TestConnectCredentials(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	seedFile := file("seed", string(seed))
	other, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	otherSeed, err := other.Seed()
	if err != nil {
		t.Fatal(err)
	}

	users := rawServer(t, &server.Options{
		Users: []*server.User{{Username: "node", Password: "se cret@:/"}},
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	token := rawServer(t, &server.Options{Authorization: "tok-en"})
	for _, c := range []struct {
		name string
		o    broker.Options
		kind error    // nil: connects
		says []string // in the error
	}{
		{name: "user", o: broker.Options{URLs: []string{users}, User: "node", Password: "se cret@:/"}},
		{name: "user in the URL", o: broker.Options{URLs: []string{strings.Replace(users, "://", "://node:se%20cret%40%3A%2F@", 1)}}},
		{name: "token", o: broker.Options{URLs: []string{token}, Token: "tok-en"}},
		{name: "nkey", o: broker.Options{URLs: []string{users}, NKeySeed: seedFile}},
		{name: "no scheme", o: broker.Options{URLs: []string{strings.TrimPrefix(token, "nats://")}, Token: "tok-en"}},
		{name: "wrong password", o: broker.Options{URLs: []string{users}, User: "node", Password: "wrong-one"},
			kind: broker.ErrAuthentication, says: []string{users, `user "node" with a password`}},
		{name: "wrong token", o: broker.Options{URLs: []string{token}, Token: "wrong-one"},
			kind: broker.ErrAuthentication, says: []string{"a token"}},
		{name: "wrong nkey", o: broker.Options{URLs: []string{users}, NKeySeed: file("other", string(otherSeed))},
			kind: broker.ErrAuthentication, says: []string{filepath.Join(dir, "other")}},
		{name: "none", o: broker.Options{URLs: []string{token}}, kind: broker.ErrAuthentication, says: []string{"no credentials"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Logger = testLogger(t)
			nc, err := broker.Connect(testContext(t), c.o)
			if c.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				nc.Close()
				return
			}
			if err == nil {
				nc.Close()
				t.Fatal("it connects")
			}
			wantError(t, err, c.kind)
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error doesn't say %q: %v", text, err)
				}
			}
			if strings.Contains(err.Error(), "wrong-one") {
				t.Errorf("error holds the secret: %v", err)
			}
		})
	}
	// What is wrong with the options is reported with Retry too, before dialling.
	for _, c := range []struct {
		name string
		o    broker.Options
		says string
	}{
		{"no URL", broker.Options{}, "no broker URL"},
		{"bad scheme", broker.Options{URLs: []string{"http://x:1"}}, `scheme "http"`},
		{"no host", broker.Options{URLs: []string{"nats://:4222"}}, "no host"},
		{"unreadable URL", broker.Options{URLs: []string{"nats://u:hidden-one@h:port"}}, "can't be read"},
		{"two ways", broker.Options{URLs: []string{users}, User: "a", Token: "b"}, "choose one"},
		{"password alone", broker.Options{URLs: []string{users}, Password: "b"}, "no user"},
		{"no seed file", broker.Options{URLs: []string{users}, NKeySeed: filepath.Join(dir, "absent")}, filepath.Join(dir, "absent")},
		{"bad seed", broker.Options{URLs: []string{users}, NKeySeed: file("bad", "nonsense")}, filepath.Join(dir, "bad")},
		{"no credentials file", broker.Options{URLs: []string{users}, Credentials: filepath.Join(dir, "absent")}, "credentials " + filepath.Join(dir, "absent")},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Retry = true
			nc, err := broker.Connect(testContext(t), c.o)
			if err == nil {
				nc.Close()
				t.Fatal("it connects")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error doesn't say %q: %v", c.says, err)
			}
			if strings.Contains(err.Error(), "hidden-one") {
				t.Errorf("error holds the secret: %v", err)
			}
		})
	}
}

func TestConnectUnreachable(t *testing.T) {
	address := freeAddress(t)
	t.Run("refused", func(t *testing.T) {
		_, err := broker.Connect(testContext(t), broker.Options{URLs: []string{"nats://u:hidden@" + address}})
		wantError(t, err, broker.ErrUnreachable)
		for _, text := range []string{address, "connection refused", "firewall"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("error doesn't say %q: %v", text, err)
			}
		}
		if strings.Contains(err.Error(), "hidden") {
			t.Errorf("error holds the password: %v", err)
		}
	})
	t.Run("several", func(t *testing.T) {
		second := freeAddress(t)
		_, err := broker.Connect(testContext(t), broker.Options{URLs: []string{address, second}})
		wantError(t, err, broker.ErrUnreachable)
		if strings.Count(err.Error(), "connection refused") != 2 || strings.Contains(err.Error(), "\n") {
			t.Errorf("error doesn't name both on one line: %v", err)
		}
	})
	t.Run("not NATS", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
				conn.Close()
			}
		}()
		_, err = broker.Connect(testContext(t), broker.Options{URLs: []string{l.Addr().String()}})
		if err == nil {
			t.Fatal("it connects")
		}
		if !strings.Contains(err.Error(), l.Addr().String()) {
			t.Errorf("error doesn't say where: %v", err)
		}
	})
	// Accepts and never answers: the context ends it.
	t.Run("silent", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err = broker.Connect(ctx, broker.Options{URLs: []string{l.Addr().String()}})
		wantError(t, err, context.DeadlineExceeded)
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// A daemon comes up before its broker, and before its broker knows it.
func TestConnectRetry(t *testing.T) {
	address := freeAddress(t)
	connected := make(chan struct{}, 1)
	nc := connect(t, broker.Options{URLs: []string{address}, Retry: true, User: "node", Password: "right",
		OnConnect: func(*nats.Conn) { connected <- struct{}{} }})
	if nc.IsConnected() {
		t.Fatal("connected to nothing")
	}
	p := newPublisher(t, nc, broker.PublisherOptions{})
	wantError(t, publish(t, p, "logs.0.a.b", "").Err, broker.ErrDisconnected)

	refusing, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: t.TempDir(), User: "node", Password: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	// Refused a few times over.
	eventually(t, "the refusals", func() bool { return nc.Stats().Reconnects >= 3 })
	if err := refusing.Shutdown(); err != nil {
		t.Fatal(err)
	}
	serve(t, broker.ServerOptions{Listen: address, User: "node", Password: "right"})
	receive(t, connected, "the connection")
	wantError(t, publish(t, p, "logs.0.a.b", "").Err, broker.ErrNoStream)
}

func TestConnectCallbacks(t *testing.T) {
	address := freeAddress(t)
	store := t.TempDir()
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 10)
	connect(t, broker.Options{URLs: []string{address}, Name: "the name",
		OnConnect:    func(*nats.Conn) { events <- "connect" },
		OnDisconnect: func(*nats.Conn, error) { events <- "disconnect" },
		OnReconnect:  func(*nats.Conn) { events <- "reconnect" },
	})
	if e := receive(t, events, "an event"); e != "connect" {
		t.Fatalf("event is %s", e)
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if e := receive(t, events, "an event"); e != "disconnect" {
		t.Fatalf("event is %s", e)
	}
	serve(t, broker.ServerOptions{Listen: address, Store: store})
	if e := receive(t, events, "an event"); e != "reconnect" {
		t.Fatalf("event is %s", e)
	}
}

func TestConnectTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	serverCert, serverKey := ours.issue(t, "localhost", time.Now().Add(time.Hour))
	oldCert, oldKey := ours.issue(t, "localhost", time.Now().Add(-time.Hour))
	namedCert, namedKey := ours.issue(t, "broker.example", time.Now().Add(time.Hour))
	clientCert, clientKey := ours.issue(t, "client", time.Now().Add(time.Hour))
	strangeCert, strangeKey := theirs.issue(t, "client", time.Now().Add(time.Hour))
	expiredCert, expiredKey := ours.issue(t, "client", time.Now().Add(-time.Hour))

	plain := serve(t, broker.ServerOptions{}).URL()
	oneWay := serve(t, broker.ServerOptions{TLS: broker.TLS{Certificate: serverCert, Key: serverKey}}).URL()
	expired := serve(t, broker.ServerOptions{TLS: broker.TLS{Certificate: oldCert, Key: oldKey}}).URL()
	named := serve(t, broker.ServerOptions{TLS: broker.TLS{Certificate: namedCert, Key: namedKey}}).URL()
	mutual := serve(t, broker.ServerOptions{TLS: broker.TLS{Certificate: serverCert, Key: serverKey, CA: ours.file}}).URL()

	asPlain := func(url string) string { return strings.Replace(url, "tls://", "nats://", 1) }
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		tls       broker.TLS
		ok        bool
		says      []string
	}{
		{name: "verified", url: oneWay, tls: broker.TLS{CA: ours.file}, ok: true},
		{name: "verified, scheme nats", url: asPlain(oneWay), tls: broker.TLS{CA: ours.file}, ok: true},
		{name: "another authority", url: oneWay, tls: broker.TLS{CA: theirs.file}, says: []string{theirs.file, "ca"}},
		{name: "no authority", url: oneWay, says: []string{"this system's authorities"}},
		{name: "no authority, scheme nats", url: asPlain(oneWay), says: []string{"this system's authorities"}},
		{name: "another name", url: named, tls: broker.TLS{CA: ours.file}, says: []string{"server_name", "broker.example"}},
		{name: "another name, given", url: named, tls: broker.TLS{CA: ours.file, ServerName: "broker.example"}, ok: true},
		{name: "expired", url: expired, tls: broker.TLS{CA: ours.file}, says: []string{"expired", "dates"}},
		{name: "mutual", url: mutual, tls: broker.TLS{CA: ours.file, Certificate: clientCert, Key: clientKey}, ok: true},
		{name: "mutual without certificate", url: mutual, tls: broker.TLS{CA: ours.file}, says: []string{"set certificate and key"}},
		{name: "mutual, strange certificate", url: mutual, tls: broker.TLS{CA: ours.file, Certificate: strangeCert, Key: strangeKey}, says: []string{strangeCert}},
		{name: "mutual, expired certificate", url: mutual, tls: broker.TLS{CA: ours.file, Certificate: expiredCert, Key: expiredKey}, says: []string{expiredCert}},
		{name: "server without TLS", url: plain, tls: broker.TLS{CA: ours.file}, says: []string{"offers no TLS"}},
		{name: "server without TLS, scheme tls", url: strings.Replace(plain, "nats://", "tls://", 1), says: []string{"offers no TLS"}},
		{name: "no file", url: oneWay, tls: broker.TLS{CA: filepath.Join(dir, "absent")}, says: []string{filepath.Join(dir, "absent")}},
		{name: "no PEM", url: oneWay, tls: broker.TLS{CA: empty}, says: []string{empty, "no PEM certificate"}},
		{name: "certificate without key", url: mutual, tls: broker.TLS{CA: ours.file, Certificate: clientCert}, says: []string{"go together"}},
		{name: "key of another", url: mutual, tls: broker.TLS{CA: ours.file, Certificate: clientCert, Key: serverKey}, says: []string{clientCert, serverKey}},
		{name: "plain websocket", url: "ws://127.0.0.1:1", tls: broker.TLS{CA: ours.file}, says: []string{"wss://"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc, err := broker.Connect(testContext(t), broker.Options{URLs: []string{c.url}, TLS: c.tls})
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				if _, err := nc.TLSConnectionState(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				nc.Close()
				t.Fatal("it connects")
			}
			wantError(t, err, broker.ErrCertificate)
			for _, text := range append(c.says, strings.TrimPrefix(asPlain(c.url), "nats://")) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error doesn't say %q: %v", text, err)
				}
			}
		})
	}
}

// Certificates are renewed in place while the daemon runs.
func TestConnectTLSRenewed(t *testing.T) {
	ours := newAuthority(t, "ours")
	serverCert, serverKey := ours.issue(t, "localhost", time.Now().Add(time.Hour))
	first, firstKey := ours.issue(t, "first", time.Now().Add(time.Hour))
	second, secondKey := ours.issue(t, "second", time.Now().Add(time.Hour))
	address, store := freeAddress(t), t.TempDir()
	o := broker.ServerOptions{Listen: address, Store: store, TLS: broker.TLS{Certificate: serverCert, Key: serverKey, CA: ours.file}}
	s, err := broker.Serve(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	reconnected := make(chan struct{}, 10)
	nc := connect(t, broker.Options{URLs: []string{s.URL()}, TLS: broker.TLS{CA: ours.file, Certificate: first, Key: firstKey},
		OnReconnect: func(*nats.Conn) { reconnected <- struct{}{} }})
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{second: first, secondKey: firstKey} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, o)
	receive(t, reconnected, "the reconnect")
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
}

func TestInboxPrefixAndControlSubject(t *testing.T) {
	s := serve(t, broker.ServerOptions{InProcess: true})
	id := broker.PlainNATS{Prefix: "logs", Inbox: "_INBOX.of.n1"}
	if got := id.ControlSubject("n1=2Eexample"); got != "logs.control.n1=2Eexample" {
		t.Errorf("control subject is %s", got)
	}
	for _, c := range []struct {
		o    broker.Options
		want string
	}{
		{broker.Options{}, "_INBOX."},
		{broker.Options{Identity: id}, "_INBOX.of.n1."},
		{broker.Options{Identity: id, InboxPrefix: "mine"}, "mine."},
	} {
		c.o.Server = s
		if inbox := connect(t, c.o).NewInbox(); !strings.HasPrefix(inbox, c.want) {
			t.Errorf("inbox is %s, want %s…", inbox, c.want)
		}
	}
}
