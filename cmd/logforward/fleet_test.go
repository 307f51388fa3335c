package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/fleet"
)

// fleetAsk runs a fleet command and reads its JSON.
func (s *site) fleetAsk(want int, args ...string) (sum fleet.Summary) {
	s.t.Helper()
	code, out, errText := once(s.t, append(append([]string{"fleet"}, args...), "--json", "--url", s.url)...)
	if code != want {
		s.t.Fatalf("fleet %v: %d %s %s", args, code, out, errText)
	}
	if code == exitOK || code == exitUnconfirmed {
		if err := json.Unmarshal([]byte(out), &sum); err != nil {
			s.t.Fatalf("fleet %v: %v in %q", args, err, out)
		}
	}
	return sum
}

func TestFleetPauseStopsAndNodesConfirm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", "one\n")
	s.define("app", "log: app\npath: LOGS/app.log\nstart: beginning\n")
	s.startAll()
	s.arrives("app", "one\n")

	eventually(t, "it is committed", func() bool { // then the centre knows the node
		var status control.StatusReply
		s.ask(&status, "status")
		return len(status.Logs) == 1 && status.Logs[0].Confirmed == 4
	})
	if code, out, errText := once(t, "fleet", "status", "--url", s.url); code != 0 || !strings.Contains(out, "no pause holds") || !strings.Contains(out, "1 of 1 nodes have confirmed") {
		t.Errorf("status: %d %s %s", code, out, errText)
	}
	code, out, errText := once(t, "fleet", "pause", "--for", "2h", "--reason", "storage is full", "--url", s.url)
	if code != 0 || !strings.Contains(out, "* paused since") || !strings.Contains(out, ": storage is full") || !strings.Contains(out, "2h0m0s more") || !strings.Contains(out, "1 of 1 nodes have confirmed, 1 of them are paused") {
		t.Errorf("pause: %d %s %s", code, out, errText)
	}
	eventually(t, "the node's audit log says who has paused it, and why", func() bool {
		said := func(left string) bool {
			return s.audited(`"action":"pause"`, `"reason":"storage is full"`, `"for":"`+left)
		}
		return said("2h") || said("1h59m") // what was left of it when the node heard of it
	})
	s.append("app.log", "two\n")
	eventually(t, "the node says why nothing goes", func() bool {
		var status control.StatusReply
		s.ask(&status, "status")
		return status.Logs[0].State == "paused" && status.Logs[0].LagBytes == 4 && strings.Contains(status.Logs[0].Error, "storage is full")
	})
	if code, out, _ := once(t, "status", "--config", s.config); code != 0 || !strings.Contains(out, "storage is full") || !strings.Contains(out, "local=") {
		t.Errorf("node's status: %d %s", code, out)
	}
	// A second pause beside it.
	sum := s.fleetAsk(0, "pause", "--match", "db*")
	if len(sum.Pauses) != 2 || sum.Nodes != 0 {
		t.Errorf("%+v", sum)
	}
	sum = s.fleetAsk(0, "status")
	if len(sum.Pauses) != 2 || sum.Nodes != 1 || sum.Confirmed != 1 || sum.Paused != 1 || sum.Waiting != 4 {
		t.Errorf("%+v", sum)
	}
	if code, _, errText := once(t, "fleet", "resume", "--url", s.url); code != exitUsage || !strings.Contains(errText, `--match "*" or "db*"`) {
		t.Errorf("which one: %d %s", code, errText)
	}
	if code, _, errText := once(t, "fleet", "resume", "--match", "mail*", "--url", s.url); code != exitUsage || !strings.Contains(errText, "mail*") {
		t.Errorf("none of these: %d %s", code, errText)
	}
	if sum = s.fleetAsk(0, "resume", "--match", "*"); sum.Confirmed != 1 || sum.Paused != 0 || len(sum.Pauses) != 1 {
		t.Errorf("%+v", sum)
	}
	eventually(t, "the audit log says that it goes on", func() bool { return s.audited(`"action":"resume"`) })
	s.arrives("app", "one\ntwo\n")
	s.fleetAsk(0, "resume")
	s.fleetAsk(exitUsage, "resume")

	// A node that is down hasn't confirmed, and it was up a moment ago.
	s.node.signal(term())
	s.node.ended(time.Minute)
	sum = s.fleetAsk(exitUnconfirmed, "pause", "--wait", "1s")
	if sum.Nodes != 1 || sum.Confirmed != 0 || sum.Late != 1 || len(sum.Missing) != 1 || sum.Missing[0].Identity != "n1.example.net" || sum.Missing[0].Heard {
		t.Errorf("%+v", sum)
	}
	s.append("app.log", "three\n")
	s.startNode()
	if sum = s.fleetAsk(0, "status"); sum.Confirmed != 1 || sum.Paused != 1 {
		t.Errorf("%+v", sum)
	}
	if code, out, errText := once(t, "fleet", "resume", "--all", "--url", s.url); code != 0 || !strings.Contains(out, "no pause holds") {
		t.Errorf("resume: %d %s %s", code, out, errText)
	}
	s.arrives("app", "one\ntwo\nthree\n")
}

// audited tells whether a line of the node's audit log about the fleet's pause has all of these.
func (s *site) audited(texts ...string) bool {
	b, err := os.ReadFile(s.dir + "/audit.log")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		found := strings.Contains(line, `"route":"fleet"`)
		for _, text := range texts {
			found = found && strings.Contains(line, text)
		}
		if found {
			return true
		}
	}
	return false
}

func TestFleetTakesOnlyWhatCanBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"fleet", exitUsage, "fleet"},
		{"fleet pause", exitConfig, "neither url nor choria is set"},
		{"fleet pause --for -1h --url x", exitUsage, "--for"},
		{"fleet pause --for 0s --url x", exitUsage, "longer than nothing"},
		{"fleet pause --for soon --url x", exitUsage, "soon"},
		{"fleet pause --wait 0s --url x", exitUsage, "--wait"},
		{"fleet pause --match web[ --url x", exitUsage, "glob"},
		{"fleet pause --reason a\x1bb --url x", exitUsage, "can't be printed"},
		{"fleet status --match [ --url x", exitUsage, "glob"},
		{"fleet resume --match x --all --url x", exitUsage, "choose one"},
		{"fleet status --url nats://127.0.0.1:1", exitUnreachable, "127.0.0.1:1"},
	} {
		code, _, errText := once(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errText, c.says) {
			t.Errorf("%q: %d %s", c.args, code, errText)
		}
	}
}
