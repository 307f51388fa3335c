package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/policy/table"
	"logforward/policies"
	"logforward/test/fleet/site"
)

// tokenRules is a document for a token: these actions of the agent, with a condition.
func tokenRules(condition string, actions ...string) string {
	return fmt.Sprintf("package io.choria.aaasvc\n\nimport rego.v1\n\ndefault allow := false\n\nallow if {\n\tinput.agent == \"logforward\"\n\tinput.action in {%s}\n\t%s\n}\n",
		`"`+strings.Join(actions, `", "`)+`"`, condition)
}

// Where the server lets the caller's token decide, the node's document decides as well: both must allow.
func TestPolicyInTokens(t *testing.T) {
	t.Parallel()
	g := &guarded{fleet: newFleet(t, site.Tokens, 0), clients: map[string]*site.Client{}}
	text, err := policies.Files.ReadFile("logforward.rego")
	g.must(err)
	g.must(os.MkdirAll(g.LogFile("nginx"), 0o755))
	g.must(g.Write("nginx/web.log", lines("web", 0, 10)))
	g.node, err = g.AddNode("n1", site.NodeOptions{
		Policies:       map[string]string{"logforward.rego": strings.ReplaceAll(string(text), "/var/log/", filepath.Dir(g.LogFile("x"))+"/")},
		ServerSettings: map[string]string{"rpcauthprovider": "aaasvc"},
	})
	g.must(err)
	g.define(g.node, "app")
	g.must(g.node.Write("app.log", lines("app", 0, 10)))
	g.must(errors.Join(g.node.StartServer(g.ctx), g.node.StartForwarder(g.ctx)))
	for name, policy := range map[string]string{
		"ann":         tokenRules("input.sender != \"\"", "status", "list", "check"),
		"oncall-eve":  tokenRules("input.data.reason != \"\"", "pause", "resume", "status"),
		"ops-bob":     tokenRules("input.data.destination == \"central\"", "start", "redirect"),
		"audit-sue":   tokenRules("input.claims.callerid == \"up=audit-sue\"", "start", "status"),
		"mallory":     tokenRules("input.ttl > 0", "start", "stop", "pause", "resume", "redirect"), // whoever signed that
		"ops-nobody":  "",
		"ops-broken":  "package io.choria.aaasvc\n\nallow if {",
		"ops-another": "package io.choria.mcorpc.authpolicy\n\nallow := true\n",
	} {
		g.clients[name], err = g.AddClient(name, site.ClientOptions{Policy: policy})
		g.must(err)
	}
	pause := site.Inputs{"log": "app", "for": "1h", "reason": "disk"}
	start := site.Inputs{"log": "web", "path": g.LogFile("nginx/web.log"), "destination": "central", "from": "beginning"}
	g.asks("ann", "status", nil, done)
	g.asks("ann", "pause", pause, byServer)
	g.asks("oncall-eve", "pause", pause, done)
	g.asks("oncall-eve", "resume", site.Inputs{"log": "app", "reason": "done"}, done)
	g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "5h", "reason": "disk"}, byNode)
	g.asks("oncall-eve", "stop", site.Inputs{"log": "app"}, byServer)
	g.asks("ops-bob", "start", start, done)
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": g.LogFile("nginx/web.log"), "destination": "elsewhere"}, byServer)
	g.asks("ops-bob", "status", nil, byServer)
	g.asks("audit-sue", "start", start, byNode)
	g.asks("mallory", "pause", pause, byNode)
	g.asks("mallory", "start", start, byNode)
	for _, name := range []string{"ops-nobody", "ops-broken", "ops-another"} {
		g.asks(name, "start", start, byServer)
	}
	g.must(g.receiver.Wait(g.ctx, g.node, "web", lines("web", 0, 10)))
	all, _ := g.decisions()
	for _, d := range all {
		if d.Allowed && d.Route == "socket" {
			g.changes--
		}
	}
	if g.changes != 0 {
		g.Errorf("%d more changes were done than the audit log has", g.changes)
	}
}

// Whoever has a token with what the example renders to for them connects with it, to the broker of either release, and is allowed and
// denied as the table says: by the token where it can tell, by the node where it can't. So is one with as long a document as there may be,
// and more rights than most; one with more isn't let in, which is why there is a limit.
func TestRenderedPolicyInTokens(t *testing.T) {
	t.Parallel()
	for release, program := range map[string]string{"0.29.4": programs.Choria, nextRelease: programs.Next} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			g := &guarded{fleet: newFleetOf(t, site.Tokens, 0, options{site: func(c *site.Config) { c.Broker = program }}), clients: map[string]*site.Client{}}
			for _, dir := range []string{"nginx", "audit"} {
				g.must(os.MkdirAll(g.LogFile(dir), 0o755))
			}
			g.must(g.Write("nginx/web.log", lines("web", 0, 10)))
			g.must(g.Write("audit/audit.log", lines("audit", 0, 10)))
			text, err := policies.Files.ReadFile("logforward.rego")
			g.must(err)
			g.node, err = g.AddNode("n1", site.NodeOptions{
				Choria: program, Facts: map[string]any{"environment": "production"},
				Policies:       map[string]string{"logforward.rego": strings.ReplaceAll(string(text), "/var/log/", filepath.Dir(g.LogFile("x"))+"/")},
				ServerSettings: map[string]string{"rpcauthprovider": "aaasvc"},
				Settings:       map[string]string{"destination.audit.choria": filepath.Join(g.Dir, "n1", "etc", "server.conf")},
			})
			g.must(err)
			g.define(g.node, "app")
			g.must(g.node.Write("app.log", lines("app", 0, 10)))
			g.must(errors.Join(g.node.StartServer(g.ctx), g.node.StartForwarder(g.ctx)))
			text, err = policies.Files.ReadFile("operators.yaml")
			g.must(err)
			rules, err := table.Parse("operators.yaml", text)
			g.must(err)
			for _, name := range append([]string{"trainee-tim", "admin"}, callers...) {
				document, err := rules.RenderToken("up=" + name)
				g.must(err)
				g.clients[name], err = g.AddClient(name, site.ClientOptions{Policy: string(document)})
				g.must(err)
			}
			g.tokens()
			g.room()
		})
	}
}

func (g *guarded) tokens() {
	g.Helper()
	web, books := g.LogFile("nginx/web.log"), g.LogFile("audit/audit.log")
	pause := site.Inputs{"log": "app", "for": "1h", "reason": "disk"}
	for name := range g.clients {
		g.asks(name, "status", nil, done)
	}
	for _, name := range []string{"ann", "admin", "ops-bob", "oncall-eve"} {
		g.asks(name, "check", nil, done)
	}
	g.asks("ann", "pause", pause, byServer)
	g.asks("admin", "pause", pause, byServer)
	g.asks("oncall-eve", "pause", pause, done)
	g.asks("oncall-eve", "resume", site.Inputs{"log": "app", "reason": "done"}, done)
	g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "5h", "reason": "disk"}, byNode)
	g.asks("oncall-eve", "stop", site.Inputs{"log": "app", "reason": "disk"}, byServer)
	g.asks("ops-bob", "start", site.Inputs{"log": "web", "path": web, "destination": "central", "from": "beginning"}, done)
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": web, "destination": "audit"}, byServer)
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": books, "destination": "central"}, byNode)
	g.asks("ops-bob", "stop", site.Inputs{"log": "app"}, byNode)
	g.asks("audit-sue", "start", site.Inputs{"log": "audit", "path": books, "destination": "audit", "from": "beginning", "reason": "case 7"}, done)
	g.asks("audit-sue", "start", site.Inputs{"log": "x", "path": books, "destination": "central", "reason": "case 7"}, byServer)
	g.asks("audit-sue", "start", site.Inputs{"log": "x", "path": web, "destination": "audit", "reason": "case 7"}, byNode)
	g.asks("audit-sue", "pause", pause, byServer)
	small := site.Inputs{"log": "training-1", "path": g.LogFile("app/one.log"), "destination": "staging", "for": "1h", "rate": "1MiB/s", "reason": "lesson 3"}
	g.asks("trainee-tim", "start", small, byNode) // this is no test node
	small["destination"] = "central"
	g.asks("trainee-tim", "start", small, byServer)
	g.asks("trainee-tim", "redirect", site.Inputs{"log": "app", "destination": "staging"}, byServer)
	g.must(g.receiver.Wait(g.ctx, g.node, "web", lines("web", 0, 10)))
	g.must(g.receiver.Wait(g.ctx, g.node, "audit", lines("audit", 0, 10)))
	// Other agents.
	for name, c := range g.clients {
		for action, is := range map[string]bool{"ping": true, "get_config_item": name == "admin"} {
			inputs := site.Inputs{}
			if action != "ping" {
				inputs["item"] = "collectives"
			}
			r, err := c.Request(g.ctx, "rpcutil", action, inputs, g.node)
			g.must(err)
			if reply, ok := r.From(g.node); !ok || strings.Contains(reply.Message, byServer) == is {
				g.Errorf("%s rpcutil %s: %v %+v", name, action, ok, reply)
			}
		}
	}
	all, _ := g.decisions()
	for _, d := range all {
		if d.Allowed && d.Route == "socket" {
			g.changes--
		}
	}
	if g.changes != 0 {
		g.Errorf("%d more changes were done than the audit log has", g.changes)
	}
}

// room has clients connect with documents of just the greatest length, and of more.
func (g *guarded) room() {
	g.Helper()
	for bytes, fits := range map[int]bool{table.TokenRoom: true, table.TokenRoom + 200: false} {
		name := fmt.Sprintf("%040d", bytes)
		text := tokenRules("", "status") + "#"
		long, err := json.Marshal(text + "up=" + name)
		g.must(err)
		text += strings.Repeat("x", bytes-len(long)+2)
		c, err := g.AddClient(name, site.ClientOptions{
			Policy: text, Rights: tokens.ClientPermissions{StreamsAdmin: true, StreamsUser: true, EventsViewer: true, ElectionUser: true, SystemUser: true, Governor: true},
		})
		g.must(err)
		wait := 5 * time.Second // it goes on trying
		if fits {
			wait = patience
		}
		ctx, cancel := context.WithTimeout(g.ctx, wait)
		defer cancel()
		r, err := c.Req(ctx, "status", nil, g.node)
		switch {
		case fits && err != nil:
			g.Errorf("%d bytes: %v", bytes, err)
		case fits:
			if reply, ok := r.From(g.node); !ok || reply.Code != 0 {
				g.Errorf("%d bytes: %v %+v", bytes, ok, reply)
			}
		default:
			said, e := os.ReadFile(filepath.Join(g.Dir, "broker", "broker.log"))
			g.must(e)
			if err == nil || !strings.Contains(string(said), "maximum control line exceeded") {
				g.Errorf("%d bytes: %v", bytes, err)
			}
		}
	}
}
