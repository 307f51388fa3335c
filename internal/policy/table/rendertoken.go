package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// ForToken is for the token with which one caller connects, which must be short. See [Table.RenderToken].
const ForToken Document = "token"

// A token's document says only whose it is and what their roles are about: conditions that need more than a line, and deny
// rules, are the node's to judge.
const regoToken = `# By "logforward policy render"; the node decides again.
package io.choria.aaasvc

import rego.v1

default allow := false

mine if input.claims.callerid == %s
`

// regoOpenToken is what everybody may with other agents: regoOpen in fewer bytes.
const regoOpenToken = `
allow if input.agent == "discovery"

allow if input.action in split(open[input.agent], " ")

open := {
	"rpcutil": "ping agent_inventory daemon_stats collective_info get_fact get_facts inventory",
	"choria_util": "info machine_states machine_state",
	"scout": "checks",
}
`

// RenderToken writes the short document for the token of one caller, who connects to the broker with it. It allows all that the
// table allows this caller, and no action that none of their roles has. What more it allows, the node still denies: it knows
// what lists of names don't say. A table whose lists are too long for it is rendered without them.
func (t *Table) RenderToken(caller string) ([]byte, error) {
	if err := OneCaller(caller); err != nil {
		return nil, err
	}
	own := t.Of(caller)
	var text []byte
	for _, exact := range []bool{true, false} {
		var err error
		if text, err = own.token(caller, exact); err != nil {
			return nil, err
		}
		if carried(string(text), caller) <= TokenRoom {
			return text, nil
		}
	}
	return nil, fmt.Errorf("the token's document and its caller's name take %d bytes there, and Choria's broker may refuse who connects with more than %d",
		carried(string(text), caller), TokenRoom)
}

// TokenRoom is how many bytes of a token's JSON a document and its caller's name may take. NATS takes 4096 bytes of CONNECT
// (MAX_CONTROL_LINE_SIZE in nats-server's const.go), and Choria's client sends its token there twice (nats.Token and nats.UserJWT in
// go-choria's connection.go), in base64. Measured with choria 0.29.4 as client, at the brokers of 0.29.4 and 0.30.2 alike: with 1022 bytes a
// caller of 3 letters connects, with 1023 not ("maximum control line exceeded"); one of 40 letters does with 1008. The rest is left for what
// else a token may hold: six more permissions are 118 bytes. One of an issuer below the organization's has 359 more, which aren't reserved.
const TokenRoom = 880

// carried is how many bytes texts take in a token, before its base64.
func carried(texts ...string) (n int) {
	for _, text := range texts {
		b, _ := json.Marshal(text) // a text can be encoded
		n += len(b) - 2
	}
	return n
}

// OneCaller tells whether a text names a caller, and not several.
func OneCaller(text string) error {
	if err := checkText(text); err != nil {
		return err
	}
	if !callerForm().MatchString(text) || strings.HasPrefix(text, groupForm) || strings.ContainsAny(text, "*?") {
		return fmt.Errorf("%.80q is no one caller: up=NAME, choria=CERTIFICATE, or the form of another issuer", text)
	}
	return nil
}

// condition is what a group of roles has in common: lines of Rego, none: they have no condition that is short.
type condition struct {
	lines   string
	actions []string
}

func (t *Table) token(caller string, exact bool) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, regoToken, quoted(caller))
	for _, c := range t.conditions(exact) {
		fmt.Fprintf(&b, "\nallow if {\n\tmine\n\tinput.agent == %s\n\tinput.action in split(%s, \" \")\n%s}\n", quoted(Agent), quoted(strings.Join(c.actions, " ")), c.lines)
	}
	if len(t.admins) == 0 {
		b.WriteString(regoOpenToken)
	} else {
		fmt.Fprintf(&b, "\nallow if {\n\tmine\n\tinput.agent != %s\n}\n", quoted(Agent))
	}
	text, err := format.SourceWithOpts("rendered.rego", b.Bytes(), format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	return text, nil
}

// conditions are what one caller's roles are about, by what short conditions they have. An action that a role has without any
// is in no other one.
func (t *Table) conditions(exact bool) []condition {
	free := condition{}
	list := []condition{}
	never := t.never()
	for _, x := range t.roles {
		lines := ""
		if exact {
			lines = x.lines()
		}
		into := &free
		if lines != "" {
			i := slices.IndexFunc(list, func(c condition) bool { return c.lines == lines })
			if i < 0 {
				list, i = append(list, condition{lines: lines}), len(list)
			}
			into = &list[i]
		}
		into.actions = append(into.actions, x.actions...)
	}
	list = append([]condition{free}, list...)
	for i := range list {
		list[i].actions = slices.DeleteFunc(Actions(), func(a string) bool {
			return !slices.Contains(list[i].actions, a) || slices.Contains(never, a) || i > 0 && slices.Contains(list[0].actions, a)
		})
	}
	return slices.DeleteFunc(list, func(c condition) bool { return len(c.actions) == 0 })
}

// never are the actions of deny rules that have no condition.
func (t *Table) never() (actions []string) {
	for _, x := range t.denials {
		if len(x.limits) == 0 && len(x.facts) == 0 && len(x.windows) == 0 && x.provisioned == "" {
			actions = append(actions, x.actions...)
		}
	}
	return actions
}

// lines are a role's lists of names without wildcards, as conditions. A request may leave the destination to the node.
func (x *rule) lines() string {
	var b strings.Builder
	for _, c := range []struct {
		field, of string
		unsaid    []string
	}{
		{"logs", "input.data.log", nil},
		{"destinations", `object.get(input, ["data", "destination"], "")`, []string{""}},
		{"collectives", "input.collective", nil},
	} {
		list := x.limits[c.field]
		if len(list) == 0 || slices.ContainsFunc(list, func(g glob) bool { return !g.plain }) {
			continue
		}
		names := c.unsaid
		for _, g := range list {
			names = append(names, g.text)
		}
		slices.Sort(names)
		fmt.Fprintf(&b, "\t%s in %s\n", c.of, setOf(slices.Compact(names)))
	}
	return b.String()
}
