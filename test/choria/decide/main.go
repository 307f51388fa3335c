// Command decide evaluates Rego documents as Choria Server 0.29.4 does: with its own evaluator, on the OPA that it
// was built with. It reads lines of JSON, each a document with its inputs, and answers each with a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/choria-io/go-choria/opa"
	"github.com/sirupsen/logrus"
)

// question is a document with its inputs.
type question struct {
	Package string           `json:"package"`
	Policy  string           `json:"policy"`
	Inputs  []map[string]any `json:"inputs"`
}

// answer has a verdict for each input.
type answer struct {
	Error    string    `json:"error,omitempty"` // of the document
	Verdicts []verdict `json:"verdicts"`
}

type verdict struct {
	Allowed bool   `json:"allowed"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "decide:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	questions, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	for {
		var q question
		switch err := questions.Decode(&q); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
		a := answer{Verdicts: []verdict{}}
		evaluator, err := opa.New(q.Package, "data."+q.Package+".allow", opa.Logger(logrus.NewEntry(quiet)), opa.Policy([]byte(q.Policy)))
		if err != nil {
			a.Error = err.Error()
		}
		for _, input := range q.Inputs {
			if err != nil {
				break
			}
			v := verdict{}
			var failed error
			if v.Allowed, failed = evaluator.Evaluate(context.Background(), input); failed != nil {
				v.Error = failed.Error()
			}
			a.Verdicts = append(a.Verdicts, v)
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}
