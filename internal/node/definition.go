package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/sys/unix"

	"logforward/internal/control"
	"logforward/internal/tail"
	"logforward/internal/trust"
)

// MaxDefinition is the most bytes of a definition file.
const MaxDefinition = 64 << 10

// Definition says what one forwarder forwards.
type Definition struct {
	Log         string        `json:"log"`
	Path        string        `json:"path"`
	Destination string        `json:"destination,omitempty"` // empty: the only one
	Start       tail.Start    `json:"start,omitempty"`
	Rate        *control.Rate `json:"rate,omitempty"` // nil: the node's default
}

// isGlob tells a path that makes one log per file.
func isGlob(path string) bool { return strings.ContainsAny(path, `*?[{\`) }

// fields of a definition file; true: required.
func fields() map[string]bool {
	return map[string]bool{"log": true, "path": true, "destination": false, "start": false, "rate": false}
}

// maxFaults is how many faults of one definition are told of.
const maxFaults = 20

// ParseDefinition reads a definition file's content. Not just the first fault is reported,
// each as "name:line: field: what". name is only for these. What they quote of known
// fields is escaped and bounded: status shows these to the same people when they are
// right. A destination isn't quoted, for it may be a URL with a password; of anything else
// only unknown fields' names are.
func ParseDefinition(name string, content []byte) (d Definition, err error) {
	// What configuration management writes may be anything, and the parser is a
	// stranger's: a panic in it must cost this file only, not the node's forwarding.
	defer func() {
		if recover() != nil {
			d, err = Definition{}, fmt.Errorf("%s: the YAML parser failed", name)
		}
	}()
	if len(content) > MaxDefinition {
		return d, fmt.Errorf("%s: %d bytes; a definition has at most %d", name, len(content), MaxDefinition)
	}
	if i := bytes.IndexByte(content, 0); i >= 0 {
		return d, fmt.Errorf("%s: there is a NUL at byte %d: the file is damaged, or not text", name, i)
	}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return d, syntax(name, err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue
		}
		if body != nil {
			return d, fmt.Errorf("%s:%d: a second document: one file defines one forwarder", name, line(doc.Body))
		}
		body = doc.Body
	}
	if body == nil {
		return d, fmt.Errorf("%s: the file is empty; a definition needs log and path", name)
	}
	var values []*ast.MappingValueNode
	switch m := body.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		return d, fmt.Errorf(`%s:%d: want "field: value" lines, found a %s`, name, line(body), strings.ToLower(body.Type().String()))
	}
	return fromFields(name, line(body), values)
}

func fromFields(name string, first int, values []*ast.MappingValueNode) (d Definition, err error) {
	var faults []error
	fault := func(line int, field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s:%d: %s: %s", name, line, field, fmt.Sprintf(format, args...)))
	}
	seen := map[string]int{}
	for _, v := range values {
		field, at := v.Key.GetToken().Value, line(v.Key)
		if _, known := fields()[field]; !known {
			fault(at, fmt.Sprintf("%.40q", field), "unknown field; known: %s", strings.Join(fieldNames(), ", "))
			continue
		}
		if before, twice := seen[field]; twice {
			fault(at, field, "stands here a second time, first in line %d", before)
			continue
		}
		seen[field] = at
		text, ok := scalar(v.Value)
		if !ok {
			fault(at, field, "want a text, found a %s", strings.ToLower(v.Value.Type().String()))
			continue
		}
		if err := d.set(field, text); err != nil {
			fault(at, field, "%v", strings.TrimPrefix(err.Error(), field+": "))
		}
	}
	for _, field := range fieldNames() {
		if _, ok := seen[field]; fields()[field] && !ok {
			fault(first, field, "is missing")
		}
	}
	if more := len(faults) - maxFaults; more > 0 {
		faults = append(faults[:maxFaults], fmt.Errorf("%s: and %d more faults", name, more))
	}
	if len(faults) > 0 {
		return Definition{}, errors.Join(faults...)
	}
	if d.Start == "" {
		d.Start = tail.StartEnd
	}
	return d, nil
}

func (d *Definition) set(field, text string) error {
	switch field {
	case "log":
		d.Log = text
		return control.CheckLog(text)
	case "path":
		d.Path = text
		return control.CheckPath(text)
	case "destination":
		d.Destination = text
		return control.CheckDestination(text)
	case "start":
		d.Start = tail.Start(text)
		if text == "" {
			return errors.New(`want "end" or "beginning"`)
		}
		return control.CheckStart(text)
	}
	rate, err := control.ParseRate(text)
	d.Rate = &rate
	return err
}

// scalar is a value as it was written: "rate: 1048576" and "log: 2024" are texts here. Booleans,
// null, and everything built of parts are of the wrong type.
func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func fieldNames() []string {
	names := make([]string, 0, len(fields()))
	for name := range fields() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

// syntax turns the parser's error into one line without what it quotes of the source, which may be that of
// any file: a definition may be a symbolic link.
func syntax(name string, err error) error {
	var e yaml.Error
	if errors.As(err, &e) {
		at := 1
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = t.Position.Line
		}
		return fmt.Errorf("%s:%d: %s", name, at, unquoted(e.GetMessage()))
	}
	return fmt.Errorf("%s: not valid YAML", name)
}

// unquoted is the parser's message up to what it may quote.
func unquoted(message string) string {
	if i := strings.IndexAny(message, "\"'`:\n"); i >= 0 {
		message = strings.TrimSpace(message[:i]) + " …"
	}
	return message
}

// readDefinition reads one file, which must be regular, not too big, and not be written to
// while it is read: half a definition can be a valid one for another path.
func readDefinition(path string) (Definition, error) {
	// A FIFO in the directory must not hold up the others.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return Definition{}, fmt.Errorf("read definition: %w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Definition{}, fmt.Errorf("read definition: %w", err)
	}
	if !before.Mode().IsRegular() {
		return Definition{}, fmt.Errorf("%s: not a regular file", path)
	}
	if err := trust.Check(before); err != nil {
		return Definition{}, fmt.Errorf("%s: %w; a definition is configuration management's, whom policy doesn't limit: chown root and chmod go-w", path, err)
	}
	content, err := io.ReadAll(io.LimitReader(f, MaxDefinition+1))
	if err != nil {
		return Definition{}, fmt.Errorf("read definition: %w", err)
	}
	after, err := f.Stat()
	if err != nil {
		return Definition{}, fmt.Errorf("read definition: %w", err)
	}
	if signatureOf(before) != signatureOf(after) {
		return Definition{}, fmt.Errorf("%s: %w", path, errChanging)
	}
	return ParseDefinition(path, content)
}

// errChanging: the file is being written; the next look decides.
var errChanging = errors.New("it is being written to")
