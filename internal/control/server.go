package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"logforward/internal/flock"
)

// Limits of one connection and of all.
const (
	// MaxBody is the most bytes of a request's body.
	MaxBody = 64 << 10
	// MaxConnections is the most connections of callers that aren't root. Root has as many
	// of its own, so that nobody can lock it out.
	MaxConnections = 64
)

// Config describes a server. Socket and Node are required.
type Config struct {
	Socket string // absolute path, at most 107 bytes
	Node   Node
	// Authorize is asked about every verb before the node is; an error refuses it.
	// Default: [PeerPolicy].
	Authorize func(context.Context, Caller, Request) error
	Metrics   http.Handler // of /metrics; nil: not found
	Logger    *slog.Logger // default: none
	// Timeout is how long a request may take, reading and answering included; default 10 s.
	Timeout time.Duration
}

// Server answers on the control socket.
type Server struct {
	config   Config
	http     *http.Server
	listener *admission
	lock     *os.File
	done     chan error // what Serve returned
	close    sync.Once
	closed   error
}

// New allocates; nothing is touched before Open.
func New(c Config) *Server {
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Authorize == nil {
		c.Authorize = PeerPolicy(c.Socket)
	}
	return &Server{config: c, done: make(chan error, 1)}
}

// Open takes the socket and begins to answer. It fails with [ErrConflict] where another
// daemon answers there.
func (s *Server) Open(ctx context.Context) error {
	l, lock, err := listen(ctx, s.config.Socket)
	if err != nil {
		return err
	}
	s.lock = lock
	s.listener = newAdmission(l, MaxConnections, s.config.Logger)
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: s.config.Timeout / 2,
		ReadTimeout:       s.config.Timeout / 2,
		// Longer than a request may take, so that its own time-out can still be answered.
		WriteTimeout:   s.config.Timeout + 2*time.Second,
		IdleTimeout:    s.config.Timeout,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c.(*admitted).caller)
		},
	}
	go func() { s.done <- s.http.Serve(s.listener) }()
	s.config.Logger.Info("control socket is open", "socket", s.config.Socket)
	return nil
}

// Close lets requests in progress end, at most a second, then drops them, and removes
// the socket. It waits for all that Open began. Closing twice is fine.
func (s *Server) Close() error {
	s.close.Do(func() {
		if s.http == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := s.http.Shutdown(ctx)
		if err != nil {
			err = s.http.Close()
		}
		if e := <-s.done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		s.listener.gone.Wait()
		err = errors.Join(err, flock.Release(s.lock))
		if err != nil && !errors.Is(err, net.ErrClosed) {
			s.closed = fmt.Errorf("close control socket %s: %w", s.config.Socket, err)
		}
	})
	return s.closed
}

type callerKey struct{}

// admission is the listener that knows each caller before a byte is read, and turns
// away who comes when the places are taken.
type admission struct {
	*net.UnixListener
	logger       *slog.Logger
	root, others chan struct{} // one element for each open connection
	leaving      chan struct{} // one for each that is being turned away
	gone         sync.WaitGroup
}

func newAdmission(l *net.UnixListener, n int, logger *slog.Logger) *admission {
	return &admission{UnixListener: l, logger: logger, root: make(chan struct{}, n), others: make(chan struct{}, n), leaving: make(chan struct{}, n)}
}

// Accept never returns a connection whose caller isn't known.
func (a *admission) Accept() (net.Conn, error) {
	for {
		conn, err := a.AcceptUnix()
		if err != nil {
			return nil, err
		}
		caller, err := peer(conn)
		if err != nil {
			a.logger.Warn("control connection dropped", "error", err)
			conn.Close()
			continue
		}
		places := a.others
		if caller.UID == 0 {
			places = a.root
		}
		select {
		case places <- struct{}{}:
			return &admitted{UnixConn: conn, caller: caller, places: places}, nil
		default:
			a.turnAway(conn)
		}
	}
}

// turnAway says why, to as many at a time as there are places; others only see that they are.
func (a *admission) turnAway(conn *net.UnixConn) {
	select {
	case a.leaving <- struct{}{}:
		a.gone.Go(func() { sayBusy(conn); <-a.leaving })
	default:
		conn.Close()
	}
}

// sayBusy answers once the request comes, and waits for the end of it: a client takes an answer that comes before its
// request for none, and can't read one when its writing fails.
func sayBusy(conn *net.UnixConn) {
	defer conn.Close()
	const body = `{"error":"too many control connections","code":"busy","hint":"try again in a moment"}`
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, MaxBody)) // until it has read, or the time is over
}

// admitted gives its place back once, however often it is closed.
type admitted struct {
	*net.UnixConn
	caller Caller
	places chan struct{}
	once   sync.Once
}

func (c *admitted) Close() error {
	c.once.Do(func() { <-c.places })
	return c.UnixConn.Close()
}
