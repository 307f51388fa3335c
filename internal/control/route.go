package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// Headers by which a root process says for whom it asks.
const (
	HeaderCaller     = "Logforward-Caller"
	HeaderRequest    = "Logforward-Request"
	HeaderCollective = "Logforward-Collective"
	HeaderTTL        = "Logforward-Ttl"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	node := s.config.Node
	for verb, do := range s.changes() {
		mux.Handle("POST /v1/"+verb, s.answer(func(ctx context.Context, caller Caller, r *http.Request) (any, error) {
			body, err := readBody(r)
			if err != nil {
				return nil, err
			}
			return do(ctx, caller, body)
		}))
	}
	mux.Handle("GET /v1/status", s.answer(func(ctx context.Context, c Caller, r *http.Request) (any, error) {
		q, err := statusQuery(r)
		if err != nil {
			return nil, err
		}
		if err := s.config.Authorize(ctx, c, Request{Verb: VerbStatus, Log: q.Log}); err != nil {
			return nil, refused(err)
		}
		return node.Status(ctx, q)
	}))
	mux.Handle("GET /v1/list", s.answer(func(ctx context.Context, c Caller, _ *http.Request) (any, error) {
		if err := s.config.Authorize(ctx, c, Request{Verb: VerbList}); err != nil {
			return nil, refused(err)
		}
		return node.List(ctx)
	}))
	mux.Handle("GET /v1/check", s.answer(func(ctx context.Context, c Caller, _ *http.Request) (any, error) {
		if err := s.config.Authorize(ctx, c, Request{Verb: VerbCheck}); err != nil {
			return nil, refused(err)
		}
		return node.Check(ctx)
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.config.Timeout)
		defer cancel()
		h := node.Health(ctx)
		if h.Reasons == nil {
			h.Reasons = []string{}
		}
		status := http.StatusOK
		if !h.Healthy {
			status = http.StatusServiceUnavailable
		}
		s.write(w, status, h)
	})
	if s.config.Metrics != nil {
		mux.Handle("GET /metrics", s.config.Metrics)
	}
	return s.errorsAsJSON(mux)
}

// A changing request checks itself, and says what policy is to decide on.
type changing interface {
	Check() error
	About() Request
}

// changes are the verbs that change something.
func (s *Server) changes() map[string]func(context.Context, Caller, []byte) (Reply, error) {
	node := s.config.Node
	return map[string]func(context.Context, Caller, []byte) (Reply, error){
		VerbStart: change(s, node.Start), VerbStop: change(s, node.Stop), VerbPause: change(s, node.Pause),
		VerbResume: change(s, node.Resume), VerbRedirect: change(s, node.Redirect),
	}
}

// Apply does what a request of the socket with this body would do, for a caller that came another way.
// Its errors are [Error]s.
func (s *Server) Apply(ctx context.Context, caller Caller, verb string, body []byte) (Reply, error) {
	do := s.changes()[verb]
	switch {
	case do == nil:
		return Reply{}, Errorf(CodeInvalid, "%.40q changes nothing that is known", verb)
	case len(body) > MaxBody:
		return Reply{}, Errorf(CodeTooLarge, "the request has more than %d bytes", MaxBody)
	}
	if err := caller.Check(); err != nil {
		return Reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	return do(ctx, caller, body)
}

// change makes the work of a verb that changes something: decode, check, authorize, do.
func change[R changing](s *Server, do func(context.Context, Caller, R) (Reply, error)) func(context.Context, Caller, []byte) (Reply, error) {
	return func(ctx context.Context, caller Caller, body []byte) (Reply, error) {
		var request R
		if err := decode(body, &request); err != nil {
			return Reply{}, err
		}
		if err := request.Check(); err != nil {
			return Reply{}, Errorf(CodeInvalid, "%v", err)
		}
		about := request.About()
		if err := s.config.Authorize(ctx, caller, about); err != nil {
			s.config.Logger.Warn("control request refused", "verb", about.Verb, "log", about.Log, "caller", caller.Name, "uid", caller.UID, "error", err)
			return Reply{}, refused(err)
		}
		return do(ctx, caller, request)
	}
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		return body, nil
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, Errorf(CodeTooLarge, "the request has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, Errorf(CodeTimeout, "the request's body didn't arrive in time")
	}
	return nil, Errorf(CodeInvalid, "read the request: %v", err)
}

// decode reads one JSON object with known fields and nothing behind it.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return Errorf(CodeInvalid, "the request is no JSON object")
	}
	if err := d.Decode(into); err != nil {
		return Errorf(CodeInvalid, "the request is no JSON that is understood: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeInvalid, "there is something behind the request's JSON, at byte %d", d.InputOffset())
	}
	return nil
}

func statusQuery(r *http.Request) (StatusRequest, error) {
	q := r.URL.Query()
	for name, values := range q {
		if name != "log" && name != "history" || len(values) != 1 {
			return StatusRequest{}, Errorf(CodeInvalid, "parameter %.40q: status takes log and history, once each", name)
		}
	}
	request := StatusRequest{Log: q.Get("log"), History: q.Get("history") == "true"}
	if h := q.Get("history"); h != "" && h != "true" && h != "false" {
		return StatusRequest{}, Errorf(CodeInvalid, "history=%.40q: want true or false", h)
	}
	if err := request.Check(); err != nil {
		return StatusRequest{}, Errorf(CodeInvalid, "%v", err)
	}
	return request, nil
}

// answer wraps a verb: the caller, the deadline, the body's limit, and errors as JSON.
func (s *Server) answer(do func(context.Context, Caller, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.config.Timeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		caller, err := callerOf(r)
		var reply any
		if err == nil {
			reply, err = do(ctx, caller, r)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.write(w, http.StatusOK, reply)
	})
}

// callerOf is who the kernel says; where that is root, who root says it asks for.
func callerOf(r *http.Request) (Caller, error) {
	caller, ok := r.Context().Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, Errorf(CodeInternal, "the caller is not known")
	}
	ttl, another := "", Caller{UID: caller.UID, GID: caller.GID, PID: caller.PID, Groups: caller.Groups}
	for _, h := range []struct {
		name string
		into *string
	}{{HeaderCaller, &another.Name}, {HeaderRequest, &another.RequestID}, {HeaderCollective, &another.Collective}, {HeaderTTL, &ttl}} {
		values := r.Header.Values(h.name)
		if len(values) == 0 {
			continue
		}
		if caller.UID != 0 {
			return Caller{}, Errorf(CodeRefused, "only root may ask for another: header %s from uid %d", h.name, caller.UID)
		}
		if v := values[0]; len(values) > 1 || v == "" {
			return Caller{}, Errorf(CodeInvalid, "header %s: want one text", h.name)
		}
		*h.into = values[0]
	}
	if another.Name == "" {
		if another.RequestID != "" || another.Collective != "" || ttl != "" {
			return Caller{}, Errorf(CodeInvalid, "the request has an id, a collective or a time to live, and no header %s", HeaderCaller)
		}
		return caller, nil
	}
	if ttl != "" {
		n, err := strconv.Atoi(ttl)
		if err != nil {
			return Caller{}, Errorf(CodeInvalid, "header %s: %.20q is no number of seconds", HeaderTTL, ttl)
		}
		another.TTL = n
	}
	return another, another.Check()
}

func refused(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf(CodeRefused, "%v", err)
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = Errorf(CodeInternal, "%v", err)
		if errors.Is(err, context.DeadlineExceeded) {
			e.Code = CodeTimeout
		}
	}
	if e.Code == CodeInternal {
		s.config.Logger.Error("control request failed", "path", r.URL.Path, "error", err)
	}
	status, _ := e.Code.meaning()
	s.write(w, status, e)
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a NaN, say: never a half-written answer
		s.config.Logger.Error("control reply", "error", err)
		status, b = http.StatusInternalServerError, []byte(`{"error":"the reply can't be written as JSON","code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // who has gone away doesn't want to know
}

// errorsAsJSON turns the mux's own texts (404, 405) into [Error]s.
func (s *Server) errorsAsJSON(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		e := Errorf(codeNoSuchRoute, "%s %.100q is not known here", r.Method, r.URL.Path)
		e.Hint = "the daemon speaks POST /v1/{start,stop,pause,resume,redirect}, GET /v1/{status,list,check}, /metrics, /healthz"
		s.fail(w, r, e)
	})
}
