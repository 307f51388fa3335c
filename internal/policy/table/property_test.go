package table

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// seed is the one of LOGFORWARD_SEED, or a new one. It is logged.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("LOGFORWARD_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOGFORWARD_SEED=%d", n)
	return n
}

// older evaluates as Choria Server 0.29.4 does, in a process with the libraries of that.
type older struct {
	ask    *json.Encoder
	answer *json.Decoder
}

type oldVerdict struct {
	Allowed bool   `json:"allowed"`
	Error   string `json:"error"`
}

func startOlder(t *testing.T) *older {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "decide")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./decide")
	build.Dir = filepath.Join("..", "..", "..", "test", "choria")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := exec.CommandContext(t.Context(), binary)
	run.Stderr = os.Stderr
	in, err := run.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = run.Wait() // the context of the test has ended it, or its input
	})
	return &older{json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))}
}

func (o *older) put(t *testing.T, pkg string, policy []byte, inputs []map[string]any) {
	t.Helper()
	if err := o.ask.Encode(map[string]any{"package": pkg, "policy": string(policy), "inputs": inputs}); err != nil {
		t.Fatal(err)
	}
}

func (o *older) get(t *testing.T, policy []byte, n int) []oldVerdict {
	t.Helper()
	var a struct {
		Error    string
		Verdicts []oldVerdict
	}
	if err := o.answer.Decode(&a); err != nil {
		t.Fatal(err)
	}
	if a.Error != "" || len(a.Verdicts) != n {
		t.Fatalf("OPA of Choria 0.29.4 doesn't take the document: %s\n%s", a.Error, policy)
	}
	return a.Verdicts
}

// newer evaluates as the node does, on the OPA of go.mod.
type newer struct{ query rego.PreparedEvalQuery }

func prepareNewer(t *testing.T, pkg string, policy []byte, version ast.RegoVersion) newer {
	t.Helper()
	module, err := ast.ParseModuleWithOpts("x.rego", string(policy), ast.ParserOptions{RegoVersion: version})
	if err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
	c := ast.NewCompiler().WithStrict(true)
	if c.Compile(map[string]*ast.Module{"x.rego": module}); c.Failed() {
		t.Fatalf("%v\n%s", c.Errors, policy)
	}
	q, err := rego.New(rego.Query("x = data."+pkg), rego.Compiler(c), rego.StrictBuiltinErrors(true)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newer{q}
}

func (n newer) decide(t *testing.T, in map[string]any) (Verdict, error) {
	t.Helper()
	results, err := n.query.Eval(t.Context(), rego.EvalInput(in))
	if err != nil {
		return Verdict{}, err
	}
	doc := results[0].Bindings["x"].(map[string]any)
	v := Verdict{Allowed: doc["allow"].(bool), Roles: []string{}, Denied: []string{}}
	for _, name := range doc["rule"].([]any) {
		v.Roles = append(v.Roles, name.(string))
	}
	for _, name := range doc["denied"].([]any) {
		v.Denied = append(v.Denied, name.(string))
	}
	return v, nil
}

// For random tables and requests, three say the same: the rendered document on OPA as Choria Server 0.29.4
// has it, on OPA as the node has it, and the table read directly.
func TestEveryReadingAgrees(t *testing.T) {
	tables, requests := 100, 60
	if raced {
		tables = 40
	}
	n := seed(t)
	old := startOlder(t)
	allowed, denied, total := 0, 0, 0
	for i := range tables {
		r := newRandom(n + uint64(i))
		text, err := json.Marshal(r.table())
		if err != nil {
			t.Fatal(err)
		}
		table, err := Parse("random", text)
		if err != nil {
			t.Fatalf("table %d: %v\n%s", i, err, text)
		}
		document, pkg, route := ForChoria, "io.choria.mcorpc.authpolicy", Node
		if i%4 == 3 {
			document, pkg, route = ForAAA, "io.choria.aaasvc", AAA
		}
		policy, err := table.Render(document)
		if err != nil {
			t.Fatalf("table %d: %v\n%s", i, err, text)
		}
		if again, err := table.Render(document); err != nil || string(again) != string(policy) {
			t.Fatalf("table %d renders differently the second time: %v", i, err)
		}
		var inputs []map[string]any
		for range requests {
			in := r.request(table)
			if b, err := json.Marshal(in); err != nil {
				t.Fatal(err)
			} else if err := json.Unmarshal(b, &in); err != nil {
				t.Fatal(err)
			}
			inputs = append(inputs, in)
		}
		version := ast.RegoV1
		if i%2 == 1 {
			version = ast.RegoV0 // with the import it is the same language
		}
		old.put(t, pkg, policy, inputs) // it works on them meanwhile
		now := prepareNewer(t, pkg, policy, version)
		verdicts := make([]Verdict, len(inputs))
		errs := make([]error, len(inputs))
		for j, in := range inputs {
			verdicts[j], errs[j] = now.decide(t, in)
		}
		before := old.get(t, policy, len(inputs))
		for j, in := range inputs {
			direct := table.Decide(in, route)
			direct.Trials = nil
			if in["agent"] != Agent && route == AAA {
				continue // other agents have rules of their own there
			}
			rendered, err := verdicts[j], errs[j]
			if err != nil || !reflect.DeepEqual(rendered, direct) || before[j].Allowed != direct.Allowed || before[j].Error != "" {
				b, _ := json.MarshalIndent(in, "", "  ")
				t.Fatalf("LOGFORWARD_SEED=%d, table %d, request %d\ndirectly: %+v\nOPA of the node: %+v %v\nOPA of Choria: %+v\n%s\n%s\n%s", n, i, j, direct, rendered, err, before[j], b, text, policy)
			}
			total++
			if direct.Allowed {
				allowed++
			}
			if len(direct.Denied) > 0 && len(direct.Roles) > 0 {
				denied++
			}
		}
	}
	t.Logf("%d requests: %d allowed, %d allowed by a role and denied", total, allowed, denied)
	if allowed < total/50 || denied < total/500 {
		t.Errorf("of %d requests %d are allowed, and %d are denied by a deny rule alone: that tests little", total, allowed, denied)
	}
}
