package table

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a table.
const (
	MaxSize  = 1 << 20 // bytes
	maxDepth = 8
	maxNodes = 50000
)

// source is a YAML document as plain values, and where each stands.
type source struct {
	name  string
	value any
	at    map[string]*token.Position // of a value, by JSON pointer
	keys  map[string][]string        // of a mapping, in their order
	nodes int
	errs  []placed
}

// where is file:line:column of a value, or of what holds it.
func (s *source) where(pointer string) string {
	at := s.place(pointer)
	return fmt.Sprintf("%s:%d:%d", s.name, at.Line, at.Column)
}

func (s *source) place(pointer string) *token.Position {
	for {
		if p := s.at[pointer]; p != nil {
			return p
		}
		i := strings.LastIndexByte(pointer, '/')
		if i < 0 {
			return &token.Position{Line: 1, Column: 1}
		}
		pointer = pointer[:i]
	}
}

// field is a JSON pointer as people write it: roles.oncall.callers[2].
func field(pointer string) string {
	var b strings.Builder
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch {
		case numeral().MatchString(part):
			b.WriteString("[" + part + "]")
		case b.Len() > 0:
			b.WriteString("." + part)
		default:
			b.WriteString(part)
		}
	}
	if b.Len() == 0 {
		return "the table"
	}
	return b.String()
}

var numeral = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(0|-?[1-9][0-9]{0,14})$`) })

// placed is a fault and where it is.
type placed struct {
	line, column int
	err          error
}

func (s *source) fault(pointer, format string, args ...any) {
	at := s.place(pointer)
	s.errs = append(s.errs, placed{at.Line, at.Column, fmt.Errorf("%s:%d:%d: %s: %s", s.name, at.Line, at.Column, field(pointer), fmt.Sprintf(format, args...))})
}

// err is all faults, in the order of the file.
func (s *source) err() error {
	slices.SortStableFunc(s.errs, func(a, b placed) int { return cmp.Or(a.line-b.line, a.column-b.column) })
	var all []error
	for _, p := range s.errs {
		all = append(all, p.err)
	}
	return errors.Join(all...)
}

// readYAML reads a document of mappings, lists, texts, whole numbers and truth values. Anchors, tags and
// a field that stands twice are refused: what a table says should be where one looks for it.
func readYAML(name string, content []byte) (s *source, err error) {
	// The parser is a stranger's: a panic in it is an error of this file.
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%s: the YAML parser failed: %v", name, r)
		}
	}()
	if len(content) > MaxSize {
		return nil, fmt.Errorf("%s: %d bytes; a table has at most %d", name, len(content), MaxSize)
	}
	if i := bytes.IndexByte(content, 0); i >= 0 {
		return nil, fmt.Errorf("%s: there is a NUL at byte %d: the file is damaged, or not text", name, i)
	}
	if depth := nesting(content); depth > 4*maxDepth {
		return nil, fmt.Errorf("%s: %d brackets within each other; a table needs no more than %d", name, depth, maxDepth)
	}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, syntax(name, err)
	}
	s = &source{name: name, at: map[string]*token.Position{}, keys: map[string][]string{}}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, fmt.Errorf("%s:%d:%d: a second document: one file is one table", name, position(doc.Body).Line, position(doc.Body).Column)
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, fmt.Errorf("%s: the file is empty; a table has at least roles", name)
	}
	s.value = s.read("", body, 0)
	return s, s.err()
}

// nesting is how deep brackets stand within each other, wherever: the parser descends for each.
func nesting(content []byte) (deepest int) {
	depth := 0
	for _, c := range content {
		switch c {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ']', '}', '\n':
			if c != '\n' {
				depth = max(depth-1, 0)
			}
		}
	}
	return deepest
}

func position(n ast.Node) *token.Position {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position
	}
	return &token.Position{Line: 1, Column: 1}
}

func (s *source) read(pointer string, n ast.Node, depth int) any {
	if _, ok := s.at[pointer]; !ok || pointer == "" {
		s.at[pointer] = position(n)
	}
	if s.nodes++; s.nodes > maxNodes || depth > maxDepth {
		if s.nodes <= maxNodes+1 {
			s.fault(pointer, "is too deep, or the table has more than %d values", maxNodes)
		}
		return nil
	}
	switch v := n.(type) {
	case *ast.MappingNode:
		return s.mapping(pointer, v.Values, depth)
	case *ast.MappingValueNode:
		return s.mapping(pointer, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		list := make([]any, 0, len(v.Values))
		for i, value := range v.Values {
			list = append(list, s.read(fmt.Sprintf("%s/%d", pointer, i), value, depth+1))
		}
		return list
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case *ast.BoolNode:
		return v.Value
	case *ast.IntegerNode:
		if text := n.GetToken().Value; numeral().MatchString(text) {
			return json.Number(text)
		}
		s.fault(pointer, "%.40q is no plain whole number; as a text it needs quotes", n.GetToken().Value)
	case *ast.FloatNode:
		s.fault(pointer, "%.40q is no whole number; as a text it needs quotes", n.GetToken().Value)
	case *ast.NullNode:
		s.fault(pointer, "has no value")
	default:
		s.fault(pointer, "a table has no %s; write the value itself, or use groups", strings.ToLower(n.Type().String()))
	}
	return nil
}

func (s *source) mapping(of string, values []*ast.MappingValueNode, depth int) any {
	m := make(map[string]any, len(values))
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		name := v.Key.GetToken().Value
		if ok {
			name = key.Value
		} else if v.Key.Type() != ast.IntegerType && v.Key.Type() != ast.BoolType {
			s.at[of+"/?"] = position(v.Key)
			s.fault(of+"/?", "a field's name is a text, not a %s", strings.ToLower(v.Key.Type().String()))
			continue
		}
		at := of + pointer(name)
		if before, twice := s.at[at]; twice {
			again := position(v.Key)
			s.errs = append(s.errs, placed{again.Line, again.Column, fmt.Errorf("%s:%d:%d: %s: stands here a second time, first in line %d", s.name, again.Line, again.Column, field(at), before.Line)})
			continue
		}
		s.at[at] = position(v.Key)
		s.keys[of] = append(s.keys[of], name)
		m[name] = s.read(at, v.Value, depth+1)
	}
	return m
}

// syntax turns the parser's error, which shows several lines of source, into one line.
func syntax(name string, err error) error {
	var e yaml.Error
	if errors.As(err, &e) {
		if t := e.GetToken(); t != nil && t.Position != nil {
			return fmt.Errorf("%s:%d:%d: %s", name, t.Position.Line, t.Position.Column, e.GetMessage())
		}
		return fmt.Errorf("%s: %s", name, e.GetMessage())
	}
	return fmt.Errorf("%s: %w", name, err)
}
