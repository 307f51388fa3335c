package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// plan, apply and rollback are those of the command line, which knows settings, policy and files. It decides by the
// policy for the caller that Choria names.

// maxAnswer bounds what the command may say, in bytes.
const maxAnswer = 4 << 20

// maxSettings is how many changes of settings a reply tells, beside its two lists.
const maxSettings = 50

// stays is what becomes of a log that nothing happens to.
const stays = "stays"

// plannedLog is a log as the command tells of it.
type plannedLog struct {
	Log, Change, Path, Destination, Verdict, Note string
	Files                                         int
	Rate                                          int64
}

// ordered puts false before true.
func ordered(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (a *agent) plan(ctx context.Context) *reply {
	var p struct {
		State, Summary, Policy string
		Files                  int
		Rate                   int64
		Restart                bool
		Logs                   []plannedLog
		Settings               []struct{ Name, From, To string }
		Problems               []struct{ Where, Problem string }
	}
	// With faults the exit code isn't 0; they are in the answer.
	if bad := a.command(ctx, &p, "plan"); bad != nil {
		return bad
	}
	// What changes comes first, where not all can be shown.
	slices.SortStableFunc(p.Logs, func(a, b plannedLog) int { return ordered(a.Change == stays, b.Change == stays) })
	logs, names := map[string]any{}, []string{}
	for _, l := range p.Logs {
		text := fmt.Sprintf("%s: %s to %s, %d files, %s/s", l.Change, l.Path, l.Destination, l.Files, humanize.IBytes(uint64(max(l.Rate, 0))))
		if l.Verdict != "" {
			text += "; policy " + l.Verdict
		}
		if l.Note != "" {
			text += "; " + l.Note
		}
		if old, twice := logs[l.Log]; twice {
			text = fmt.Sprint(old, "; ", text)
		} else {
			names = append(names, l.Log)
		}
		logs[l.Log] = harmless(text)
	}
	changes := []string{}
	for i, s := range p.Settings {
		if i == maxSettings {
			changes = append(changes, fmt.Sprintf("and %d more settings", len(p.Settings)-i))
			break
		}
		changes = append(changes, fmt.Sprintf("%s: %q, was %q", s.Name, s.To, s.From))
	}
	if p.Restart {
		changes = append(changes, "the daemon has to be restarted for these")
	}
	if p.Policy != "unchanged" {
		changes = append(changes, "policy: "+p.Policy)
	}
	problems := []string{}
	for _, q := range p.Problems {
		problems = append(problems, q.Where+": "+q.Problem)
	}
	logs, left := fit(logs, names)
	if left > 0 {
		problems = append([]string{fmt.Sprintf("%d of %d logs aren't shown: see %q on the node", left, len(names), "logforward plan")}, problems...)
	}
	return done(map[string]any{"state": p.State, "summary": p.Summary, "files": p.Files, "rate": float64(p.Rate), "logs": logs, "settings": changes, "problems": problems})
}

func (a *agent) apply(ctx context.Context) *reply { return a.changed(ctx, "apply") }

func (a *agent) rollback(ctx context.Context) *reply { return a.changed(ctx, "rollback") }

func (a *agent) changed(ctx context.Context, verb string) *reply {
	var r struct {
		Message string
		Restart bool
	}
	if bad := a.command(ctx, &r, verb); bad != nil {
		return bad
	}
	return done(map[string]any{"state": "done", "message": r.Message, "restart": r.Restart})
}

// command runs this program for the caller, and reads its answer.
func (a *agent) command(ctx context.Context, into any, verb string) *reply {
	self, err := os.Executable()
	if err != nil {
		return failed(codeOther, "its own program can't be found: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.client.Timeout)
	defer cancel()
	args := []string{verb, "--json", "--caller=" + a.CallerID, "--collective=" + a.Collective, "--request=" + a.RequestID, fmt.Sprintf("--ttl=%d", a.TTL)}
	if a.config != "" {
		args = append(args, "--config="+a.config)
	}
	c := exec.CommandContext(ctx, self, args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH")} // without what makes it an agent
	out, complaint := &bounded{left: maxAnswer}, &bounded{left: maxMessage}
	c.Stdout, c.Stderr = out, complaint
	err = c.Run()
	if ctx.Err() != nil {
		return failed(codeOther, "no answer within %s; see %q on the node", a.client.Timeout, "logforward "+verb)
	}
	var said struct{ Error, Code, Message string }
	if json.Unmarshal(out.Bytes(), into) == nil && (err == nil || json.Unmarshal(out.Bytes(), &said) != nil || said.Code == "") {
		return nil
	}
	code := codeOther
	if exit := c.ProcessState; exit != nil && (exit.ExitCode() == 3 || exit.ExitCode() == 78) {
		code = codeAborted
	}
	return failed(code, "%s", strings.TrimPrefix(strings.TrimSpace(complaint.String()), "logforward: "))
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}
