package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"logforward/ddl"
	"logforward/internal/control"
)

// Protocols that Choria Server speaks with an external agent.
const (
	activationProtocol = "io.choria.mcorpc.external.v1.activation_request"
	requestProtocol    = "io.choria.mcorpc.external.v1.rpc_request"
)

// maxRequest bounds a request's file, in bytes: the inputs are some KiB at most.
const maxRequest = 1 << 20

// request is what Choria Server passes on, as
// https://choria.io/schemas/mcorpc/external/v1/rpc_request.json says.
type request struct {
	Agent      string         `json:"agent"`
	Action     string         `json:"action"`
	RequestID  string         `json:"requestid"`
	SenderID   string         `json:"senderid"`
	CallerID   string         `json:"callerid"`
	Collective string         `json:"collective"`
	TTL        int            `json:"ttl"`     // seconds
	Time       int64          `json:"msgtime"` // Unix, seconds
	Data       map[string]any `json:"data"`
}

func readRequest(file string) (*request, *reply) {
	f, err := os.Open(file)
	if err != nil {
		return nil, failed(codeOther, "the request can't be read: %v", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRequest+1))
	switch {
	case err != nil:
		return nil, failed(codeOther, "the request can't be read: %v", err)
	case len(b) > maxRequest:
		return nil, failed(codeInvalid, "the request has more than %d bytes", maxRequest)
	}
	r := new(request)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, failed(codeInvalid, "the request is no JSON that is understood: %v", err)
	}
	return r, nil
}

// fresh tells whether a request says who asks, and its time to live isn't over. It may have waited in a queue, or been kept by
// somebody who sends it again.
func (r *request) fresh(now time.Time) error {
	if r.CallerID == "" || r.RequestID == "" {
		return errors.New("the request doesn't say who asks, or has no id")
	}
	if r.Time == 0 || r.TTL <= 0 {
		return errors.New("the request doesn't say when it was made and how long it is good for")
	}
	if r.TTL > control.MaxTTL {
		return fmt.Errorf("the request is good for %d s; at most %d are taken", r.TTL, control.MaxTTL)
	}
	made := time.Unix(r.Time, 0)
	if age := now.Sub(made); age > time.Duration(r.TTL)*time.Second+time.Second {
		return fmt.Errorf("the request was made %s ago and was good for %d s; are the clocks right?", age.Round(time.Second), r.TTL)
	} else if age < -time.Minute {
		return fmt.Errorf("the request comes from the future, in %s; are the clocks right?", (-age).Round(time.Second))
	}
	return nil
}

// fits compares the inputs with the description. Choria Server has done so, but for limits that it leaves out.
func (r *request) fits(action *ddl.Action) *reply {
	for name, input := range action.Inputs {
		value, given := r.Data[name]
		switch {
		case !given && !input.Optional:
			return failed(codeMissing, "%s: input %s is missing", r.Action, name)
		case !given:
		default:
			if err := input.Check(value); err != nil {
				return failed(codeInvalid, "%s: input %s: %v", r.Action, name, err)
			}
		}
	}
	for name := range r.Data {
		// Choria adds this one to what a person asks for.
		if _, known := action.Inputs[name]; !known && name != "process_results" {
			return failed(codeInvalid, "%s: there is no input %.40q; there are: %v", r.Action, name, inputNames(action))
		}
	}
	return nil
}

func inputNames(action *ddl.Action) []string {
	var names []string
	for name := range action.Inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// text is an input's value; empty: not given.
func (r *request) text(name string) string {
	s, _ := r.Data[name].(string)
	return s
}

func (r *request) flag(name string) bool {
	b, _ := r.Data[name].(bool)
	return b
}
