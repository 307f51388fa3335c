// Package ddl describes the agent's actions, their inputs and outputs, as Choria's users and servers
// see them. logforward.json is the source; logforward.ddl is made from it, for what still reads the
// older format.
package ddl

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// JSON is the description as Choria reads it; its format is https://choria.io/schemas/mcorpc/ddl/v1/agent.json.
//
//go:embed logforward.json
var JSON []byte

// Agent is the description, as much of it as the agent needs.
type Agent struct {
	Metadata struct {
		Version string `json:"version"`
		Timeout int    `json:"timeout"` // seconds, until a server gives up on a request
	} `json:"metadata"`
	Actions []Action `json:"actions"`
}

// Action is what can be asked for.
type Action struct {
	Name    string            `json:"action"`
	Display string            `json:"display"`
	Inputs  map[string]Input  `json:"input"`
	Outputs map[string]Output `json:"output"`
}

// Input is what goes with a request.
type Input struct {
	Type      string   `json:"type"` // string, list or boolean
	Optional  bool     `json:"optional"`
	Pattern   string   `json:"validation"` // of a string: a regular expression
	MaxLength int      `json:"maxlength"`  // of a string, in bytes
	List      []string `json:"list"`
}

// Output is what a reply holds.
type Output struct {
	Type    string `json:"type"`
	Default any    `json:"default"`
}

// Parse reads [JSON].
func Parse() (*Agent, error) {
	a := new(Agent)
	if err := json.Unmarshal(JSON, a); err != nil {
		return nil, fmt.Errorf("the agent's own description: %w", err)
	}
	return a, nil
}

// Action finds an action by its name; nil: there is none.
func (a *Agent) Action(name string) *Action {
	for i := range a.Actions {
		if a.Actions[i].Name == name {
			return &a.Actions[i]
		}
	}
	return nil
}

// Check tells what is wrong with a value of an input. What the log's name, the path and the rest may
// be in detail is the daemon's to say.
func (i Input) Check(value any) error {
	if i.Type == "boolean" {
		if _, ok := value.(bool); !ok {
			return fmt.Errorf("want true or false")
		}
		return nil
	}
	text, ok := value.(string)
	switch {
	case !ok:
		return fmt.Errorf("want a text")
	case i.Type == "list":
		if !slices.Contains(i.List, text) {
			return fmt.Errorf("%.40q: want one of %q", text, i.List)
		}
	case len(text) > i.MaxLength:
		return fmt.Errorf("it has %d bytes; at most %d are taken", len(text), i.MaxLength)
	default:
		pattern, err := regexp.Compile(i.Pattern)
		if err != nil {
			return fmt.Errorf("the agent's own description: %w", err)
		}
		if !pattern.MatchString(text) {
			return fmt.Errorf("%.80q doesn't match %s", text, i.Pattern)
		}
	}
	return nil
}
