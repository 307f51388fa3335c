package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

const startTimeout = 60 * time.Second

// ServerOptions of [Serve].
type ServerOptions struct {
	// Listen is host:port; port 0 takes any free one, an empty host means all
	// addresses. It isn't used with InProcess.
	Listen string
	// InProcess lets the server listen nowhere; only this process can connect,
	// with [Options].Server.
	InProcess bool
	// Name of the server; empty means "logforward".
	Name string
	// Store is the directory of the streams, made if missing.
	Store string
	// SyncAlways syncs each message to disk before it is acknowledged. Without
	// it SyncInterval says how often; zero means the server's two minutes.
	SyncAlways   bool
	SyncInterval time.Duration
	// MaxPayload is the biggest message in bytes; zero means 1 MiB.
	MaxPayload int
	// MaxStore bounds the streams in bytes; zero means three quarters of what is
	// free in the file system at the start.
	MaxStore int64
	// User and Password, or Token, that clients must send; empty: none.
	User, Password string
	Token          string
	// TLS: Certificate and Key make the server demand TLS; with CA it also
	// demands client certificates which that authority signed.
	TLS TLS
	// Logger gets the server's log; nil means none.
	Logger *slog.Logger
}

// Server is a NATS server with JetStream in this process.
type Server struct {
	nats *server.Server
	lock *os.File
	url  string
}

// Serve starts a server and returns when it takes connections. It installs no
// signal handlers. The caller ends it with Shutdown; ctx bounds the start only.
func Serve(ctx context.Context, o ServerOptions) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := lockStore(o.Store)
	if err != nil {
		return nil, fmt.Errorf("broker store: %w", err)
	}
	if err := checkBuckets(o.Store); err != nil {
		return nil, errors.Join(fmt.Errorf("broker store: %w", err), flock.Release(lock))
	}
	s, err := start(ctx, o)
	if err != nil {
		return nil, errors.Join(err, flock.Release(lock))
	}
	s.lock = lock
	return s, nil
}

// checkBuckets has the server read the buckets' records when it starts, instead of believing the index that it left. A record that the disk has
// damaged is dropped then, with those behind it in its file, and written anew by receivers and nodes. Else the server (2.15.2) counts it, never delivers it, and
// when that key is to be written it holds a lock for ever. It takes a second for 150,000 records.
func checkBuckets(store string) error {
	list, err := filepath.Glob(filepath.Join(store, "jetstream", "*", "streams", "KV_LOGFORWARD*", "msgs", "index.db"))
	for _, path := range list {
		if e := os.Remove(path); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func start(ctx context.Context, o ServerOptions) (*Server, error) {
	options, err := serverConfig(o)
	if err != nil {
		return nil, err
	}
	if !o.InProcess {
		if err := portFree(ctx, o.Listen, options); err != nil {
			return nil, err
		}
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := &serverLog{log: o.Logger, fatal: make(chan string, 1)}
	ns.SetLoggerV2(log, o.Logger.Enabled(ctx, slog.LevelDebug), false, false)
	// Start returns once everything runs, and earlier after a fatal error.
	go ns.Start()
	if err := ready(ctx, ns, log); err != nil {
		err = fmt.Errorf("broker with store %s doesn't start: %w", o.Store, err)
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	return &Server{nats: ns, url: ns.ClientURL()}, nil
}

// ready waits until the server takes connections and has JetStream.
func ready(ctx context.Context, ns *server.Server, log *serverLog) error {
	deadline := time.Now().Add(startTimeout)
	for {
		if ns.ReadyForConnections(20*time.Millisecond) && ns.JetStreamEnabled() {
			return nil
		}
		select {
		case text := <-log.fatal:
			return errors.New(text)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s", startTimeout)
		}
	}
}

func serverConfig(o ServerOptions) (*server.Options, error) {
	c := &server.Options{
		ServerName:             o.Name,
		JetStream:              true,
		StoreDir:               o.Store,
		SyncAlways:             o.SyncAlways,
		SyncInterval:           o.SyncInterval,
		JetStreamMaxStore:      o.MaxStore,
		MaxPayload:             int32(o.MaxPayload),
		Username:               o.User,
		Password:               o.Password,
		Authorization:          o.Token,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		DontListen:             o.InProcess,
	}
	if c.ServerName == "" {
		c.ServerName = "logforward"
	}
	if o.MaxPayload < 0 || o.MaxPayload > server.MAX_PAYLOAD_MAX_SIZE*8 {
		return nil, fmt.Errorf("broker: max_payload of %d bytes is not between 0 and %d", o.MaxPayload, server.MAX_PAYLOAD_MAX_SIZE*8)
	}
	if o.MaxStore < 0 {
		return nil, fmt.Errorf("broker: max_store of %d bytes is negative", o.MaxStore)
	}
	if o.User != "" && o.Token != "" {
		return nil, errors.New("broker: both user and token are set: choose one")
	}
	if !o.InProcess {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, fmt.Errorf("broker: listen %q: %w; expected host:port, such as 127.0.0.1:4222", o.Listen, err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("broker: listen %q: port %q is not a number up to 65535", o.Listen, port)
		}
		c.Host, c.Port = host, int(number)
		if c.Port == 0 {
			c.Port = server.RANDOM_PORT
		}
	}
	if o.TLS.Certificate != "" {
		config, err := server.GenTLSConfig(&server.TLSConfigOpts{
			CertFile: o.TLS.Certificate, KeyFile: o.TLS.Key, CaFile: o.TLS.CA, Verify: o.TLS.CA != "",
		})
		if err != nil {
			return nil, fmt.Errorf("broker: %w: certificate %s, key %s, ca %s: %w",
				ErrCertificate, o.TLS.Certificate, o.TLS.Key, o.TLS.CA, err)
		}
		c.TLSConfig, c.TLS, c.TLSVerify = config, true, o.TLS.CA != ""
		c.TLSTimeout = dialTimeout.Seconds()
	}
	return c, nil
}

// portFree binds the port once, because the server reports a taken port only as
// text, and only after it has opened the store.
func portFree(ctx context.Context, listen string, o *server.Options) error {
	if o.Port == server.RANDOM_PORT {
		return nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("broker: listen on %s: %w; another program (perhaps another broker) has this port: stop it or set another in listen", listen, err)
	case err != nil:
		return fmt.Errorf("broker: listen on %s: %w", listen, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("broker: listen on %s: %w", listen, err)
	}
	return nil
}

// lockStore makes the directory and takes its lock, which the kernel drops with
// the process, however that ends. Two servers on one store destroy it.
func lockStore(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("no directory is given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w; let the broker's user write there, or set another directory (store; of run: output)", dir, err)
	}
	name := filepath.Join(dir, "logforward.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write to %s: %w; let the broker's user write there, or set another directory (store; of run: output)", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another broker uses it: stop that one, or keep this one's data in another directory (store; of run: output)")
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// URL is where clients connect to; in-process only it is a name without meaning
// to others.
func (s *Server) URL() string { return s.url }

// InProcessConn implements nats.InProcessConnProvider; use [Options].Server.
func (s *Server) InProcessConn() (net.Conn, error) { return s.nats.InProcessConn() }

// Shutdown closes all connections, writes out the store and returns when all of
// it is down and another server may use the store.
func (s *Server) Shutdown() error {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
	if err := flock.Release(s.lock); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("unlock the broker's store: %w", err)
	}
	return nil
}
