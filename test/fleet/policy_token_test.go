package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
