package broker_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"logforward/internal/broker"
)

func TestServeRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := t.TempDir()
	serve(t, broker.ServerOptions{Store: inUse})
	notDir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spoilt := t.TempDir()
	if err := os.WriteFile(filepath.Join(spoilt, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		o    broker.ServerOptions
		says []string
		kind error
	}{
		{"store spoilt", broker.ServerOptions{Listen: "127.0.0.1:0", Store: spoilt}, []string{spoilt, "JetStream"}, nil},
		{"port in use", broker.ServerOptions{Listen: taken.Addr().String(), Store: t.TempDir()},
			[]string{taken.Addr().String(), "already in use", "set another"}, syscall.EADDRINUSE},
		{"store in use", broker.ServerOptions{Listen: "127.0.0.1:0", Store: inUse}, []string{inUse, "another broker"}, nil},
		{"store is a file", broker.ServerOptions{Listen: "127.0.0.1:0", Store: notDir}, []string{notDir, "set another directory (store"}, syscall.ENOTDIR},
		{"store below a file", broker.ServerOptions{Listen: "127.0.0.1:0", Store: filepath.Join(notDir, "x")}, []string{notDir}, syscall.ENOTDIR},
		// Root may write everywhere but into what takes no files at all.
		{"store unwritable", broker.ServerOptions{Listen: "127.0.0.1:0", Store: "/proc/self"}, []string{"/proc/self", "set another directory (store"}, nil},
		{"no store", broker.ServerOptions{Listen: "127.0.0.1:0"}, []string{"no directory"}, nil},
		{"no port", broker.ServerOptions{Listen: "127.0.0.1", Store: t.TempDir()}, []string{"host:port"}, nil},
		{"bad port", broker.ServerOptions{Listen: "127.0.0.1:70000", Store: t.TempDir()}, []string{"70000"}, nil},
		{"negative payload", broker.ServerOptions{Listen: "127.0.0.1:0", Store: t.TempDir(), MaxPayload: -1}, []string{"max_payload"}, nil},
		{"huge payload", broker.ServerOptions{Listen: "127.0.0.1:0", Store: t.TempDir(), MaxPayload: 1 << 30}, []string{"max_payload"}, nil},
		{"negative store", broker.ServerOptions{Listen: "127.0.0.1:0", Store: t.TempDir(), MaxStore: -1}, []string{"max_store"}, nil},
		{"bad certificate", broker.ServerOptions{Listen: "127.0.0.1:0", Store: t.TempDir(), TLS: broker.TLS{Certificate: notDir, Key: notDir}}, []string{notDir}, broker.ErrCertificate},
		{"address of another machine", broker.ServerOptions{Listen: "192.0.2.1:4222", Store: t.TempDir()}, []string{"192.0.2.1:4222"}, syscall.EADDRNOTAVAIL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := broker.Serve(testContext(t), c.o)
			if err == nil {
				_ = s.Shutdown()
				t.Fatal("it starts")
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error doesn't say %q: %v", text, err)
				}
			}
			if c.kind != nil {
				wantError(t, err, c.kind)
			}
		})
	}
}

// What starts badly leaves the store for the next try, and so does Shutdown.
func TestServeAgainOnTheSameStore(t *testing.T) {
	store := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: taken.Addr().String(), Store: store}); err == nil {
		t.Fatal("it starts")
	}
	for i := range 2 {
		s, err := broker.Serve(testContext(t), broker.ServerOptions{InProcess: true, Store: store, SyncAlways: true})
		if err != nil {
			t.Fatal(err)
		}
		nc := connect(t, broker.Options{Server: s})
		js := streamAPI(t, nc)
		setUp(t, js, broker.Wanted{Partitions: 1})
		p, err := broker.NewPublisher(nc, broker.PublisherOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if a := publish(t, p, "logs.0.a.b", "x"); a.Err != nil {
			t.Fatal(a.Err)
		}
		n, err := broker.SubjectPending(testContext(t), js, "LOGFORWARD_0", "logs.0.a.b")
		if err != nil || n != uint64(i+1) {
			t.Errorf("round %d: %d messages, %v", i, n, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Shutdown(); err != nil {
			t.Fatal(err)
		}
		if err := s.Shutdown(); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
	}
}

func TestServeOptions(t *testing.T) {
	s := serve(t, broker.ServerOptions{MaxPayload: 2 << 20, MaxStore: 1 << 30, Name: "central"})
	if strings.HasSuffix(s.URL(), ":0") || !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
		t.Errorf("URL is %s", s.URL())
	}
	nc := connect(t, broker.Options{URLs: []string{s.URL()}})
	if nc.MaxPayload() != 2<<20 || nc.ConnectedServerName() != "central" {
		t.Errorf("payload %d, name %s", nc.MaxPayload(), nc.ConnectedServerName())
	}
	// The store is for its owner's eyes.
	inside := filepath.Join(t.TempDir(), "made", "store")
	serve(t, broker.ServerOptions{InProcess: true, Store: inside})
	info, err := os.Stat(inside)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("store has mode %v", info.Mode())
	}
}
