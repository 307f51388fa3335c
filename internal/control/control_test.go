package control

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// recorder is a Node that remembers what reached it.
type recorder struct {
	mu      sync.Mutex
	callers []Caller
	seen    []any
	err     error
	block   chan struct{} // Status waits for it
}

func (n *recorder) note(c Caller, r any) (Reply, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.callers, n.seen = append(n.callers, c), append(n.seen, r)
	return Reply{State: "done", Changed: true, Message: "ok"}, n.err
}

func (n *recorder) last() (Caller, any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) == 0 {
		return Caller{}, nil
	}
	return n.callers[len(n.callers)-1], n.seen[len(n.seen)-1]
}

func (n *recorder) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.seen)
}

func (n *recorder) Start(_ context.Context, c Caller, r StartRequest) (Reply, error) {
	return n.note(c, r)
}
func (n *recorder) Stop(_ context.Context, c Caller, r StopRequest) (Reply, error) {
	return n.note(c, r)
}
func (n *recorder) Pause(_ context.Context, c Caller, r PauseRequest) (Reply, error) {
	return n.note(c, r)
}
func (n *recorder) Resume(_ context.Context, c Caller, r ResumeRequest) (Reply, error) {
	return n.note(c, r)
}
func (n *recorder) Redirect(_ context.Context, c Caller, r RedirectRequest) (Reply, error) {
	return n.note(c, r)
}
func (n *recorder) Status(ctx context.Context, r StatusRequest) (StatusReply, error) {
	_, err := n.note(Caller{}, r)
	if n.block != nil {
		select {
		case <-n.block:
		case <-ctx.Done():
			return StatusReply{}, ctx.Err()
		}
	}
	return StatusReply{Identity: "n1", Logs: []LogStatus{{Log: "syslog", Confirmed: 1 << 60}}}, err
}
func (n *recorder) List(context.Context) (ListReply, error) {
	return ListReply{Forwarders: []Forwarder{{Log: "syslog"}}}, n.err
}
func (n *recorder) Check(context.Context) (CheckReply, error) {
	return CheckReply{Status: Warning, Text: "lag"}, n.err
}
func (n *recorder) Health(context.Context) Health {
	if n.err != nil {
		return Health{Reasons: []string{n.err.Error()}}
	}
	return Health{Healthy: true}
}

// open starts a server on a socket of its own.
func open(t *testing.T, c Config) *Client {
	t.Helper()
	if c.Socket == "" {
		c.Socket = filepath.Join(t.TempDir(), "s")
	}
	s := New(c)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return NewClient(c.Socket)
}

func TestControlVerbsArriveAsSent(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node})
	ctx := t.Context()
	rate := Rate(5 << 20)
	day := Duration(24 * time.Hour)
	start := StartRequest{Log: "nginx-access", Path: "/var/log/nginx/*.log", Destination: "central", Start: "beginning", Rate: &rate, For: day, Reason: "ticket 12"}
	if r, err := client.Start(ctx, start); err != nil || r.State != "done" {
		t.Fatalf("start: %+v, %v", r, err)
	}
	caller, got := node.last()
	back := got.(StartRequest)
	if back.Rate == nil || *back.Rate != rate {
		t.Errorf("rate arrived as %v", back.Rate)
	}
	back.Rate = start.Rate
	if back != start {
		t.Errorf("start arrived as %+v, sent %+v", back, start)
	}
	if caller.PID == 0 || caller.Name == "" {
		t.Errorf("the caller isn't known: %+v", caller)
	}
	for _, c := range []struct {
		do   func() error
		want any
	}{
		{func() error {
			_, err := client.Stop(ctx, StopRequest{Log: "a", Drain: true, For: day})
			return err
		}, StopRequest{Log: "a", Drain: true, For: day}},
		{func() error { _, err := client.Pause(ctx, PauseRequest{All: true}); return err }, PauseRequest{All: true}},
		{func() error { _, err := client.Resume(ctx, ResumeRequest{Log: "a"}); return err }, ResumeRequest{Log: "a"}},
		{func() error {
			_, err := client.Redirect(ctx, RedirectRequest{Log: "a", Destination: "b"})
			return err
		}, RedirectRequest{Log: "a", Destination: "b"}},
		{func() error {
			_, err := client.Status(ctx, StatusRequest{Log: "a b&log=c", History: true})
			return err
		}, StatusRequest{Log: "a b&log=c", History: true}},
	} {
		if err := c.do(); err != nil {
			t.Errorf("%+v: %v", c.want, err)
		}
		if _, got := node.last(); got != c.want {
			t.Errorf("arrived as %+v, sent %+v", got, c.want)
		}
	}
	status, err := client.Status(ctx, StatusRequest{})
	if err != nil || len(status.Logs) != 1 || status.Logs[0].Confirmed != 1<<60 {
		t.Errorf("status: %+v, %v", status, err)
	}
	if l, err := client.List(ctx); err != nil || len(l.Forwarders) != 1 {
		t.Errorf("list: %+v, %v", l, err)
	}
	if c, err := client.Check(ctx); err != nil || c.ExitCode() != 1 {
		t.Errorf("check: %+v, %v", c, err)
	}
}

func TestControlHealthTellsReasons(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node})
	if h, err := client.Health(t.Context()); err != nil || !h.Healthy {
		t.Errorf("health: %+v, %v", h, err)
	}
	node.err = errors.New("no destination is connected")
	h, err := client.Health(t.Context())
	if err != nil || h.Healthy || len(h.Reasons) != 1 {
		t.Errorf("unhealthy: %+v, %v", h, err)
	}
}

func TestControlErrorsKeepTheirKind(t *testing.T) {
	for _, c := range []struct {
		give, want error
	}{
		{Errorf(CodeInvalid, "x"), ErrInvalid},
		{Errorf(CodeRefused, "x"), ErrRefused},
		{Errorf(CodeUnknownLog, "x").WithHint("known: y"), ErrUnknownLog},
		{Errorf(CodeConflict, "x"), ErrConflict},
		{errors.New("x"), ErrInternal},
		{context.DeadlineExceeded, ErrTimeout},
	} {
		node := &recorder{err: c.give}
		client := open(t, Config{Node: node})
		_, err := client.Stop(t.Context(), StopRequest{Log: "a"})
		if !errors.Is(err, c.want) {
			t.Errorf("%v arrived as %v", c.give, err)
		}
		var e *Error
		if errors.As(c.give, &e) && err.Error() != e.Error() {
			t.Errorf("%q arrived as %q", e, err)
		}
	}
}

func TestControlRequestTimesOut(t *testing.T) {
	node := &recorder{block: make(chan struct{})}
	client := open(t, Config{Node: node, Timeout: 200 * time.Millisecond})
	if _, err := client.Status(t.Context(), StatusRequest{}); !errors.Is(err, ErrTimeout) {
		t.Errorf("a node that doesn't answer: %v", err)
	}
	slow := open(t, Config{Node: node})
	slow.Timeout = 50 * time.Millisecond
	if _, err := slow.Status(t.Context(), StatusRequest{}); !errors.Is(err, ErrTimeout) {
		t.Errorf("a daemon that doesn't answer: %v", err)
	}
}

func TestControlAuthorizeRefuses(t *testing.T) {
	node := new(recorder)
	var asked []Request
	client := open(t, Config{Node: node, Authorize: func(_ context.Context, c Caller, r Request) error {
		asked = append(asked, r)
		return errors.New("policy: no")
	}})
	if _, err := client.Start(t.Context(), StartRequest{Log: "a", Path: "/var/log/a", Destination: "central"}); !errors.Is(err, ErrRefused) || err.Error() != "policy: no" {
		t.Errorf("start: %v", err)
	}
	if _, err := client.Pause(t.Context(), PauseRequest{All: true}); !errors.Is(err, ErrRefused) {
		t.Errorf("pause: %v", err)
	}
	if _, err := client.Status(t.Context(), StatusRequest{Log: "a"}); !errors.Is(err, ErrRefused) {
		t.Errorf("status: %v", err)
	}
	if _, err := client.List(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("list: %v", err)
	}
	if _, err := client.Check(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("check: %v", err)
	}
	if node.count() != 0 {
		t.Errorf("%d refused requests reached the node", node.count())
	}
	want := Request{Verb: VerbStart, Log: "a", Path: "/var/log/a", Destination: "central"}
	if len(asked) != 5 || asked[0] != want {
		t.Errorf("policy was asked %+v", asked)
	}
}

func TestPeerPolicy(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	open(t, Config{Socket: socket, Node: new(recorder)})
	chgrp(t, socket, 4242)
	allow := PeerPolicy(socket)
	for _, c := range []struct {
		name   string
		caller Caller
		verb   string
		ok     bool
	}{
		{"root changes", Caller{UID: 0}, VerbStop, true},
		{"other changes", Caller{UID: 1000, GID: 1000}, VerbStop, false},
		{"other starts", Caller{UID: 1000, GID: 1000}, VerbStart, false},
		{"other pauses", Caller{UID: 1000, GID: 1000}, VerbPause, false},
		{"other resumes", Caller{UID: 1000, GID: 1000}, VerbResume, false},
		{"other reads", Caller{UID: 1000, GID: 1000}, VerbStatus, true},
		{"primary group", Caller{UID: 1000, GID: 4242}, VerbStop, true},
		{"supplementary group", Caller{UID: 1000, GID: 1000, Groups: []int{7, 4242}}, VerbStop, true},
	} {
		err := allow(t.Context(), c.caller, Request{Verb: c.verb})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v isn't ErrRefused", c.name, err)
		}
	}
}
