package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// maxReply bounds what a client reads: tens of thousands of logs.
const maxReply = 64 << 20

// Client asks a node's daemon. It may be used by several goroutines.
type Client struct {
	Socket  string
	Timeout time.Duration // of one request; default 10 s
	// Caller and what follows say for whom a root process asks; empty: for itself. TTL is in seconds.
	Caller, RequestID, Collective string
	TTL                           int

	http http.Client
}

// NewClient makes a client; nothing is touched before the first request.
func NewClient(socket string) *Client {
	c := &Client{Socket: socket}
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true, // a command asks once; a place in the daemon isn't held
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	return c
}

// Start forwards a path, or lifts a stop. This and all other methods return an [Error] that
// unwraps to one of the sentinels: [ErrNotRunning] where nobody answers, [ErrRefused],
// [ErrTimeout], or what the daemon said.
func (c *Client) Start(ctx context.Context, r StartRequest) (Reply, error) {
	return ask[Reply](ctx, c, VerbStart, r)
}

// Stop ends forwarding of a log.
func (c *Client) Stop(ctx context.Context, r StopRequest) (Reply, error) {
	return ask[Reply](ctx, c, VerbStop, r)
}

// Pause holds one log or all.
func (c *Client) Pause(ctx context.Context, r PauseRequest) (Reply, error) {
	return ask[Reply](ctx, c, VerbPause, r)
}

// Resume lifts a pause.
func (c *Client) Resume(ctx context.Context, r ResumeRequest) (Reply, error) {
	return ask[Reply](ctx, c, VerbResume, r)
}

// Redirect sends a log to another destination.
func (c *Client) Redirect(ctx context.Context, r RedirectRequest) (Reply, error) {
	return ask[Reply](ctx, c, VerbRedirect, r)
}

// Status tells where all logs stand, or one.
func (c *Client) Status(ctx context.Context, r StatusRequest) (StatusReply, error) {
	q := url.Values{}
	if r.Log != "" {
		q.Set("log", r.Log)
	}
	if r.History {
		q.Set("history", "true")
	}
	return get[StatusReply](ctx, c, "/v1/status?"+q.Encode())
}

// List tells what is to be forwarded.
func (c *Client) List(ctx context.Context) (ListReply, error) {
	return get[ListReply](ctx, c, "/v1/list")
}

// Check gives one verdict.
func (c *Client) Check(ctx context.Context) (CheckReply, error) {
	return get[CheckReply](ctx, c, "/v1/check")
}

// Health tells whether the daemon does its work. An unhealthy one is no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return get[Health](ctx, c, "/healthz")
}

func ask[T any](ctx context.Context, c *Client, verb string, request changing) (T, error) {
	var none T
	if err := request.Check(); err != nil {
		return none, Errorf(CodeInvalid, "%s: %v", verb, err)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return none, Errorf(CodeInvalid, "%s: %v", verb, err)
	}
	return do[T](ctx, c, http.MethodPost, "/v1/"+verb, body)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return do[T](ctx, c, http.MethodGet, path, nil)
}

func do[T any](ctx context.Context, c *Client, method, path string, body []byte) (reply T, err error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://logforward"+path, bytes.NewReader(body))
	if err != nil {
		return reply, Errorf(CodeInvalid, "%s: %v", path, err)
	}
	if c.Caller != "" {
		// Checked here, too: HTTP cuts spaces off, and another name may be left.
		if err := (Caller{Name: c.Caller, RequestID: c.RequestID, Collective: c.Collective, TTL: c.TTL}).Check(); err != nil {
			return reply, err
		}
		request.Header.Set(HeaderCaller, c.Caller)
		request.Header.Set(HeaderTTL, strconv.Itoa(c.TTL))
	}
	if c.RequestID != "" {
		request.Header.Set(HeaderRequest, c.RequestID)
	}
	if c.Collective != "" {
		request.Header.Set(HeaderCollective, c.Collective)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply, c.unreachable(err, timeout)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return reply, c.unreachable(err, timeout)
	}
	// An unhealthy daemon answers 503 with a Health, which is no error.
	_, isHealth := any(reply).(Health)
	if response.StatusCode != http.StatusOK && !(isHealth && response.StatusCode == http.StatusServiceUnavailable) {
		e := new(Error)
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			return reply, Errorf(CodeInternal, "%s: %s with %.200q: is that logforward?", c.Socket, response.Status, b)
		}
		return reply, e
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return reply, Errorf(CodeInternal, "%s: a reply that can't be read: %v", c.Socket, err)
	}
	return reply, nil
}

// unreachable says what a failure to talk means and what to do.
func (c *Client) unreachable(err error, timeout time.Duration) error {
	start := "start it with: systemctl start logforward-forward, or: logforward ensure"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Errorf(CodeNotRunning, "logforward isn't running here: there is no socket %s", c.Socket).WithHint("%s", start)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(CodeNotRunning, "logforward isn't running here: nobody answers on %s", c.Socket).WithHint("%s", start)
	case errors.Is(err, fs.ErrPermission):
		return Errorf(CodeRefused, "no permission to talk to logforward on %s", c.Socket).WithHint("ask as root, or as a member of the socket's group")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Errorf(CodeTimeout, "logforward on %s didn't answer within %s", c.Socket, timeout)
	case errors.Is(err, syscall.EINVAL) && len(c.Socket) > maxSocketPath:
		return Errorf(CodeInvalid, "socket %s: the path has %d bytes, a unix socket's may have %d", c.Socket, len(c.Socket), maxSocketPath)
	case errors.Is(err, syscall.EAGAIN): // of connect: its backlog is full
		return Errorf(CodeBusy, "logforward on %s takes no more connections", c.Socket).WithHint("try again in a moment")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// Who is turned away may meet the closed connection before the word that says why. A daemon that
		// doesn't run is another thing: what was asked for is kept for it then.
		if c.answers() {
			return Errorf(CodeBusy, "logforward on %s closed the connection: it has too many, or was restarted: %v", c.Socket, err).WithHint("try again in a moment")
		}
		return Errorf(CodeNotRunning, "logforward on %s ended while it was asked: %v", c.Socket, err).WithHint("look at its log, then try again")
	}
	return Errorf(CodeInternal, "ask logforward on %s: %v", c.Socket, err)
}

// answers tells whether somebody listens on the socket. It doesn't wait: a backlog that is full is somebody's.
func (c *Client) answers() bool {
	conn, err := net.DialTimeout("unix", c.Socket, time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil || errors.Is(err, syscall.EAGAIN)
}
