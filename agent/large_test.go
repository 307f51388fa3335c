package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"logforward/internal/awake"
	"logforward/internal/control"
)

// tells is a daemon that answers each read with what it is given.
func (h *host) tells(replies map[string]any) {
	h.Helper()
	l, err := net.Listen("unix", h.path("sock"))
	h.must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(replies[strings.TrimPrefix(r.URL.Path, "/v1/")])
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	h.Cleanup(func() { server.Close(); <-done })
}

// A reply that a broker doesn't take would never arrive: 1 MiB is the default, and Choria's envelopes make 2.4 of one.
func TestRepliesOfThousandsOfLogsFitABroker(t *testing.T) {
	const count = 10000
	h := newHost(t)
	status, list, check := control.StatusReply{}, control.ListReply{}, control.CheckReply{Status: control.Warning, Text: "x"}
	for i := range count {
		l := control.LogStatus{
			Log: fmt.Sprintf("app.service-%05d.log", i), State: "paused", Path: fmt.Sprintf("/var/log/app/service-%05d.log", i), Destination: "central",
			Override: &control.Override{Verb: "pause", By: "choria=alice.mcollective", Reason: strings.Repeat("r", 512), Since: time.Now(), Until: time.Now()},
		}
		if i == count-1 {
			l.State, l.Error = "failed", "the one to see"
		}
		status.Logs = append(status.Logs, l)
		list.Forwarders = append(list.Forwarders, control.Forwarder{Log: l.Log, Path: l.Path, Destination: "central", State: "active"})
		p := control.Problem{Where: l.Path, Problem: strings.Repeat("p", 200)}
		status.Problems, list.Problems, check.Problems = append(status.Problems, p), append(list.Problems, p), append(check.Problems, p)
	}
	h.tells(map[string]any{"status": status, "list": list, "check": check})
	for _, ask := range []struct {
		action string
		data   inputs
	}{{"status", nil}, {"status", inputs{"details": true}}, {"list", nil}, {"check", nil}} {
		watch := awake.Begin(t)
		r := h.ask(ask.action, ask.data)
		b, err := json.Marshal(r)
		h.must(err)
		if r.Code != codeOK || len(b)*24/10 > 1<<20 {
			t.Errorf("%s %v: code %d, %d bytes", ask.action, ask.data, r.Code, len(b))
		}
		watch.End()
		if took := watch.Took(); took > 4*time.Second {
			t.Errorf("%s %v took %s", ask.action, ask.data, took)
		}
		switch ask.action {
		case "status":
			logs := r.Data["logs"].(map[string]any)
			if logs["app.service-09999.log"] == nil || !strings.Contains(r.Data["error"].(string), "logs aren't shown") || r.Data["state"] != "failed" {
				t.Errorf("%v: %d logs, %v, %.200v", ask.data, len(logs), r.Data["state"], r.Data["error"])
			}
		case "list":
			if p := fmt.Sprint(r.Data["problems"]); !strings.Contains(p, "forwarders aren't shown") || !strings.Contains(p, " more") {
				t.Errorf("%.200s", p)
			}
		case "check":
			if p := fmt.Sprint(r.Data["problems"]); !strings.Contains(p, " more") {
				t.Errorf("%.200s", p)
			}
		}
	}
}

// Whoever may make a directory below a permitted path, or runs a broker, chooses texts that operators see.
func TestNothingInAReplyPlaysWithATerminal(t *testing.T) {
	h := newHost(t)
	evil := "\x1b]0;x\a\u009b2J\u202e\r\n"
	problems := []control.Problem{{Where: "/var/log/" + evil, Problem: evil}}
	l := control.LogStatus{Log: "app", State: "failed", Path: "/var/log/" + evil, Destination: "central", Error: evil, Promise: evil}
	h.tells(map[string]any{
		"status": control.StatusReply{Logs: []control.LogStatus{l}, Problems: problems},
		"list":   control.ListReply{Forwarders: []control.Forwarder{{Log: "app", Path: l.Path, State: "active"}}, Problems: problems},
		"check":  control.CheckReply{Status: control.Critical, Text: evil, Problems: problems},
		"pause":  control.Reply{State: "paused", Message: evil},
	})
	var look func(where string, v any)
	look = func(where string, v any) {
		switch v := v.(type) {
		case string:
			for _, c := range v {
				if !unicode.IsPrint(c) {
					t.Errorf("%s: %q", where, v)
					return
				}
			}
		case []any:
			for _, e := range v {
				look(where, e)
			}
		case map[string]any:
			for key, e := range v {
				look(where+"."+key, e)
			}
		}
	}
	for _, ask := range []struct {
		action string
		data   inputs
	}{{"status", nil}, {"status", inputs{"details": true}}, {"list", nil}, {"check", nil}, {"pause", inputs{"log": "app"}}} {
		r := h.ask(ask.action, ask.data)
		if r.Code != codeOK {
			t.Errorf("%s: %+v", ask.action, r)
		}
		look(ask.action, r.Data)
	}
}
