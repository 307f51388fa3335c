// Package policy decides with the Rego document that Choria Server decides with: one file, package
// io.choria.mcorpc.authpolicy, rule allow. What isn't allowed is denied; where there is no document, or
// a broken one, all is.
//
// A document may also define rule, a text or a set of texts: what allowed it, for the audit log; and denied,
// alike: what forbade it.
package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "time/tzdata" // a node need not have the time zones that a document names

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"logforward/internal/trust"
)

const (
	// Package is the one that Choria Server asks.
	Package = "io.choria.mcorpc.authpolicy"
	// MaxSize bounds a document, in bytes.
	MaxSize = 8 << 20
	// maxTime bounds a decision: a document may be written so that it never ends.
	maxTime = 2 * time.Second
)

// Input is what a document sees, as Choria Server makes it.
type Input struct {
	Agent         string          `json:"agent"`
	Action        string          `json:"action"`
	CallerID      string          `json:"callerid"`
	Collective    string          `json:"collective"`
	Data          map[string]any  `json:"data"` // the inputs of the action
	TTL           int             `json:"ttl"`  // seconds
	Time          time.Time       `json:"time"`
	Facts         json.RawMessage `json:"facts"`
	Classes       []string        `json:"classes"`
	Agents        []string        `json:"agents"`
	ProvisionMode bool            `json:"provision_mode"`
}

// Decision is a verdict.
type Decision struct {
	Allowed bool
	Rule    string // what allowed it, as the document says; "allow" where it doesn't say
	Reason  string // why not
	Digest  string // SHA-256 of the document, in hex; empty: there is none
	Broken  bool   // no document is in force: it is missing, broken, or may be written by others
	// Undecided: the document failed at this question, or didn't answer in time. That is a denial of what is asked for.
	Undecided bool
}

// Policy is a document, read again when it changes. It may be used by several goroutines.
type Policy struct {
	file  string
	fixed bool // it isn't read again

	mu     sync.Mutex
	seen   os.FileInfo // of what was read; nil: read it again
	loaded *Document
}

// fresh is how long after a file's last change another one may leave no trace: clocks of file systems go in
// steps of some milliseconds.
const fresh = 50 * time.Millisecond

// Document is what a file had at a moment: an error, or what can be asked. It doesn't change, so several
// questions about one request are answered by one and the same.
type Document struct {
	file   string
	err    error
	digest string
	allow  rego.PreparedEvalQuery
	rule   rego.PreparedEvalQuery
	denied rego.PreparedEvalQuery
}

// Open names a document. That it is missing or broken shows in each decision.
func Open(file string) *Policy { return &Policy{file: file} }

// Read takes a document as it is, wherever it came from; name is for messages.
func Read(ctx context.Context, name string, text []byte) *Policy {
	return &Policy{file: name, fixed: true, loaded: load(ctx, name, text)}
}

// File is its name.
func (p *Policy) File() string { return p.file }

// settledAfter is more than the steps in which file systems count time.
const settledAfter = 2 * time.Second

// Settled tells whether nothing can have become of the file since it was read without an event in its directory: it is a file by itself, under this name
// alone, and was left alone for a while before it was read. One that isn't there, or can't be read, isn't settled.
func (p *Policy) Settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fixed {
		return true
	}
	if p.seen == nil {
		return false
	}
	info, err := os.Lstat(p.file)
	return err == nil && same(info, p.seen) && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 && time.Since(changed(info)) >= settledAfter
}

// Err is why nothing is allowed: the document is missing, broken, or may be written by others. nil: it is in force.
func (p *Policy) Err(ctx context.Context) error {
	return p.Document(ctx).err
}

// Digest is the SHA-256 of the document, in hex; empty: there is none.
func (d *Document) Digest() string { return d.digest }

// Err is why nothing is allowed; see [Policy.Err].
func (d *Document) Err() error { return d.err }

// Decide asks the document of this moment. It takes well under a millisecond, but for the first time after a change.
func (p *Policy) Decide(ctx context.Context, in Input) Decision {
	return p.Document(ctx).Decide(ctx, in)
}

// Decide asks the document.
func (d *Document) Decide(ctx context.Context, in Input) Decision {
	if d.err != nil {
		return Decision{Reason: d.err.Error(), Digest: d.digest, Broken: true}
	}
	if in.Data == nil {
		in.Data = map[string]any{}
	}
	if len(in.Facts) == 0 {
		in.Facts = json.RawMessage("{}")
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	value, err := asked(ctx, d.allow, in)
	allowed, isBool := value.(bool)
	switch {
	case err != nil:
		return Decision{Reason: fmt.Sprintf("policy %s can't decide: %v", d.file, err), Digest: d.digest, Undecided: true}
	case !isBool:
		return Decision{Reason: fmt.Sprintf("policy %s: allow is neither true nor false here, but %v", d.file, value), Digest: d.digest}
	case !allowed:
		reason := fmt.Sprintf("the policy doesn't let %s %s this", in.CallerID, in.Action)
		if names := names(ctx, d.denied, in); names != "" {
			reason = fmt.Sprintf("the policy forbids %s to %s this (%s)", in.CallerID, in.Action, names)
		}
		return Decision{Reason: reason, Digest: d.digest}
	}
	rule := names(ctx, d.rule, in)
	if rule == "" {
		rule = "allow"
	}
	return Decision{Allowed: true, Rule: rule, Digest: d.digest}
}

// names are what a rule of the document says beside the verdict; empty: it says nothing. They don't decide.
func names(ctx context.Context, q rego.PreparedEvalQuery, in Input) string {
	value, err := asked(ctx, q, in)
	if err != nil {
		return ""
	}
	return named(value)
}

func asked(ctx context.Context, q rego.PreparedEvalQuery, in Input) (any, error) {
	results, err := q.Eval(ctx, rego.EvalInput(in))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, nil
	}
	return results[0].Expressions[0].Value, nil
}

func named(rule any) string {
	var names []string
	switch r := rule.(type) {
	case string:
		names = append(names, r)
	case []any:
		for _, one := range r {
			if s, ok := one.(string); ok {
				names = append(names, s)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Document is the one that is in the file now.
func (p *Policy) Document(ctx context.Context) *Document {
	if p.fixed {
		return p.loaded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.file)
	if err == nil && p.seen != nil && same(info, p.seen) {
		return p.loaded
	}
	text, info, err := read(p.file)
	p.seen = info
	if err != nil {
		p.loaded = &Document{file: p.file, err: err}
		return p.loaded
	}
	if time.Since(changed(info)).Abs() < fresh {
		p.seen = nil // it isn't the last word
	}
	if p.loaded != nil && p.loaded.digest == digestOf(text) {
		return p.loaded
	}
	d := load(ctx, p.file, text)
	if ctx.Err() != nil {
		p.seen, p.loaded = nil, nil // that somebody gave up isn't a verdict about the document
		return d
	}
	p.loaded = d
	return d
}

// same tells whether a file is as it was, as far as can be told without reading it.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && changed(a).Equal(changed(b))
}

// changed is when a file, its mode or its owner changed last.
func changed(info os.FileInfo) time.Time {
	at := info.Sys().(*syscall.Stat_t).Ctim
	return time.Unix(int64(at.Sec), int64(at.Nsec))
}

// read reads a document that only root, or this process's own user, can have written.
func read(file string) ([]byte, os.FileInfo, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no policy %s, so nothing is allowed", file)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("policy: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("policy: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("policy %s is no regular file", file)
	}
	if err := trust.Check(info); err != nil {
		return nil, info, fmt.Errorf("policy %s: %w, so nothing is allowed", file, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("policy: %w", err)
	}
	if len(text) > MaxSize {
		return nil, info, fmt.Errorf("policy %s has more than %d bytes", file, MaxSize)
	}
	if after, err := f.Stat(); err != nil || !info.ModTime().Equal(after.ModTime()) || info.Size() != after.Size() {
		// Half a document may allow what the whole one forbids. (One that was replaced meanwhile is still whole.)
		return nil, nil, fmt.Errorf("policy %s is being written to, so nothing is allowed at this moment", file)
	}
	return text, info, nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func load(ctx context.Context, file string, text []byte) *Document {
	d := &Document{file: file, digest: digestOf(text)}
	compiled, err := compile(file, text)
	for rule, query := range map[string]*rego.PreparedEvalQuery{"allow": &d.allow, "rule": &d.rule, "denied": &d.denied} {
		if err == nil {
			*query, err = prepare(ctx, compiled, rule)
		}
	}
	if err != nil {
		d.err = fmt.Errorf("policy %s is broken, so nothing is allowed: %w", file, err)
	}
	return d
}

// parse reads a document as Choria Server of either generation would.
func parse(file string, text []byte) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(file, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, err
	}
	if have := strings.TrimPrefix(module.Package.Path.String(), "data."); have != Package {
		return nil, fmt.Errorf("its package is %s; Choria asks %s", have, Package)
	}
	return module, nil
}

// reaching are functions that reach beyond the document and its input: no decision may depend on them.
var reaching = []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module", "trace"}

func able() *ast.Capabilities {
	able := ast.CapabilitiesForThisVersion()
	able.Builtins = slices.DeleteFunc(able.Builtins, func(b *ast.Builtin) bool { return slices.Contains(reaching, b.Name) })
	return able
}

func compile(file string, text []byte) (*ast.Compiler, error) {
	module, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	c := ast.NewCompiler().WithCapabilities(able())
	if c.Compile(map[string]*ast.Module{file: module}); c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}

func prepare(ctx context.Context, compiled *ast.Compiler, rule string) (rego.PreparedEvalQuery, error) {
	return rego.New(
		rego.Query("data."+Package+"."+rule), rego.Compiler(compiled), rego.Capabilities(able()), rego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
}
