package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"logforward/internal/control"
	"logforward/internal/fleet"
	"logforward/internal/keeper"
	"logforward/internal/policy/suite"
	operators "logforward/internal/policy/table"
	"logforward/internal/receive"
	"logforward/internal/settings"
	"logforward/internal/tap"
)

// document is what commands print with --json.
type document struct {
	commands []string
	about    string
	value    any
	names    map[string]map[string]string // of an object that has no type of its own: its keys, and what each means
}

// documents are all of them, in the page's order.
func documents() []document {
	return []document{
		{[]string{"status"}, "One object.", control.StatusReply{}, nil},
		{[]string{"list"}, "One object.", control.ListReply{}, nil},
		{[]string{"check"}, "One object. Its exit code is that of a monitoring plugin.", control.CheckReply{}, nil},
		{[]string{"check --metrics"}, "One object, as Choria's metric watcher takes it, with or without `--json`.", metrics{}, map[string]map[string]string{"labels": {}, "metrics": numbersHelp}},
		{[]string{"start", "stop", "pause", "resume", "redirect"}, "One object: what the change has come to.", control.Reply{}, nil},
		{[]string{"ensure"}, "One object of strings, the numbers among them, too, as Choria's exec watcher takes it. With `--data` only what the machine doesn't have already.", keeper.Report{}, nil},
		{[]string{"plan"}, "One object.", planned{}, nil},
		{[]string{"apply", "rollback"}, "One object; `plan --apply` prints the same.", applied{}, nil},
		{[]string{"validate", "policy check"}, "A list, one for each check.", []finding{}, nil},
		{[]string{"seal-key"}, "One object.", sealKey{}, nil},
		{[]string{"config"}, "A list, one for each setting that matches.", []settings.Description{}, nil},
		{[]string{"version"}, "One object.", versions{}, nil},
		{[]string{"run"}, "A list at its end, one for each file.", []outcome{}, nil},
		{[]string{"broker"}, "One object, as soon as it serves; then it runs on.", served{}, nil},
		{[]string{"setup"}, "One object. With `--dry-run` and `--check` too.", settled{}, nil},
		{[]string{"fleet status", "fleet pause", "fleet resume"}, "One object.", fleet.Summary{}, nil},
		{[]string{"receivers"}, "One object.", receive.Overview{}, nil},
		{[]string{"receivers --forget"}, "One object.", forgotten{}, nil},
		{[]string{"drain"}, "One object: the receiver as it stands then.", receive.ReceiverView{}, nil},
		{[]string{"locate"}, "One object.", receive.Located{}, nil},
		{[]string{"ledger"}, "A list, one for each line of the log's ledgers, in their order.", []receive.Entry{}, nil},
		{[]string{"verify"}, "A list, one for each log.", []receive.Verification{}, nil},
		{[]string{"aside"}, "A list, one for each file that is set aside.", []receive.SetAside{}, nil},
		{[]string{"aside keep", "aside drop"}, "One object: what the receiver is asked for.", receive.AsideRequest{}, nil},
		{[]string{"tap"}, "One object a line, for as long as it runs.", tap.Event{}, nil},
		{[]string{"policy render"}, "One object.", rendered{}, nil},
		{[]string{"policy explain"}, "One object.", explanation{}, nil},
		{[]string{"policy test"}, "A list, one for each document.", []suite.Report{}, nil},
		{[]string{"policy diff"}, "One object.", operators.Comparison{}, nil},
		{[]string{"any command that fails"}, "One object, unless the command has printed its own already. The same text is on standard error.", control.Error{}, nil},
	}
}

// without print none: what they write is a log's bytes, or for as long as they run nothing but their own log, which log_format = json makes JSON.
var without = []string{"cat", "forward", "receive"}

// key is one of a document's keys.
type key struct {
	path     string // logs[].history[].by; NAME stands for any
	kind     string
	about    string
	optional bool // it is absent where it says nothing
}

// What the page says is what the types say that commands print.
func TestJSONIsDocumented(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, d := range documents() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | |\n|---|---|---|\n", strings.Join(d.commands, ", "), d.about)
		for _, k := range jsonKeysOf(t, d) {
			if k.about == "" {
				t.Errorf("%s: %s has no comment", d.commands[0], k.path)
			}
			kind := k.kind
			if k.optional {
				kind += ", or absent"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.path, kind, strings.ReplaceAll(k.about, "|", `\|`))
		}
	}
	const page, mark = "../../docs/json.md", "\n<!-- What follows is made by: make docs -->\n"
	before, got, _ := strings.Cut(read(t, page), mark)
	if *update {
		write(t, page, before+mark+b.String())
	} else if got != b.String() {
		t.Errorf("docs/json.md differs from the types: run make docs\n%s", b.String())
	}
}

// jsonKeysOf are a document's keys, in the order in which it has them.
func jsonKeysOf(t *testing.T, d document) []key {
	t.Helper()
	k := &keys{t: t, names: d.names}
	v := reflect.TypeOf(d.value)
	if v.Kind() == reflect.Slice {
		k.object("[]", v.Elem())
	} else {
		k.object("", v)
	}
	return k.all
}

// keys collects those of one document.
type keys struct {
	t     *testing.T
	names map[string]map[string]string
	all   []key
}

func (k *keys) object(path string, v reflect.Type) {
	about := comments(k.t, v)
	for i := range v.NumField() {
		f := v.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			k.object(path, f.Type)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			k.t.Errorf("%s.%s has no name in JSON", v, f.Name)
		}
		if path != "" {
			name = path + "." + name
		}
		text := about[f.Name]
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		kind, deeper := jsonKind(k.t, f.Type)
		if text == "" && deeper {
			text = comments(k.t, inner)[""]
		}
		if options != "" {
			text = nothing.ReplaceAllString(text, "absent: ")
		}
		k.all = append(k.all, key{name, kind, text, options != ""})
		switch {
		case deeper && f.Type.Kind() == reflect.Slice:
			k.object(name+"[]", inner)
		case deeper:
			k.object(name, inner)
		case f.Type.Kind() == reflect.Map && k.names[name] != nil:
			value, _ := jsonKind(k.t, f.Type.Elem())
			for _, one := range slices.Sorted(maps.Keys(k.names[name])) {
				k.all = append(k.all, key{name + "." + one, value, sentence(k.names[name][one], "", nil), true})
			}
		case f.Type.Kind() == reflect.Map:
			value, _ := jsonKind(k.t, f.Type.Elem())
			k.all = append(k.all, key{name + ".NAME", value, "a value by its name", true})
		}
	}
}

var (
	texts  = reflect.TypeFor[encoding.TextMarshaler]()
	custom = reflect.TypeFor[json.Marshaler]()
	times  = reflect.TypeFor[time.Time]()
)

// jsonKind is what a type is in JSON; deeper: an object, or a list of them, whose fields are keys of their own.
func jsonKind(t *testing.T, v reflect.Type) (kind string, deeper bool) {
	t.Helper()
	switch {
	case v.Kind() == reflect.Pointer:
		return jsonKind(t, v.Elem())
	case v == times:
		return "time", false
	case v.Implements(custom):
		t.Errorf("%s: how it is in JSON isn't known here", v)
	case v.Implements(texts):
		return "string", false
	}
	switch v.Kind() {
	case reflect.String:
		return "string", false
	case reflect.Bool:
		return "boolean", false
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer", false
	case reflect.Float64:
		return "number", false
	case reflect.Map:
		return "object", false
	case reflect.Struct:
		return "object", true
	case reflect.Slice:
		if v.Elem().Kind() == reflect.Uint8 {
			return "base64", false
		}
		of, deeper := jsonKind(t, v.Elem())
		return "list of " + of + "s", deeper
	}
	t.Errorf("%s: how it is in JSON isn't known here", v)
	return "", false
}

// parsedPackages are the comments of types by directory, type and field; that of the type itself has an empty name.
var parsedPackages sync.Map

// comments are what a type's source says of it and of its fields, as the page has it.
func comments(t *testing.T, v reflect.Type) map[string]string {
	t.Helper()
	dir := filepath.Join("../..", strings.TrimPrefix(v.PkgPath(), "logforward"))
	if v.PkgPath() == "main" {
		dir = "."
	}
	known, ok := parsedPackages.Load(dir)
	if !ok {
		known = commentsBelow(t, dir)
		parsedPackages.Store(dir, known)
	}
	found := known.(map[string]map[string]string)[v.Name()]
	if found == nil {
		t.Fatalf("%s: no such type in %s", v, dir)
	}
	names := map[string]string{}
	for i := range v.NumField() {
		names[v.Field(i).Name], _, _ = strings.Cut(v.Field(i).Tag.Get("json"), ",")
	}
	clean := map[string]string{"": sentence(found[""], v.Name(), nil)}
	for name := range names {
		clean[name] = sentence(found[name], name, names)
	}
	return clean
}

func commentsBelow(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	all := map[string]map[string]string{}
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", dir, err, len(files))
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok {
					continue
				}
				body, ok := spec.Type.(*ast.StructType)
				if !ok {
					continue
				}
				fields := map[string]string{"": g.Doc.Text()}
				for _, field := range body.Fields.List {
					for _, name := range field.Names {
						fields[name.Name] = field.Doc.Text() + field.Comment.Text()
					}
				}
				all[spec.Name.Name] = fields
			}
		}
	}
	return all
}

// nothing is how comments of fields call the value that is absent in JSON.
var nothing = regexp.MustCompile(`\b(nil|zero|empty): `)

var words = regexp.MustCompile(`\b[A-Z][A-Za-z]*\b`)

// sentence is a comment as the page has it: fields by their keys, without the name that it begins with.
func sentence(comment, name string, keys map[string]string) string {
	text := strings.TrimSuffix(strings.Join(strings.Fields(comment), " "), ".")
	for _, begin := range []string{name + " is ", name + " are ", name + ": "} {
		text = strings.TrimPrefix(text, begin)
	}
	text = strings.NewReplacer("[", "", "]", "").Replace(text)
	text = words.ReplaceAllStringFunc(text, func(word string) string {
		if keys[word] != "" && !strings.HasPrefix(text, word) {
			return "`" + keys[word] + "`"
		}
		return word
	})
	if text == "" {
		return ""
	}
	first := []rune(text)
	if len(first) > 1 && !unicode.IsUpper(first[1]) { // no abbreviation
		first[0] = unicode.ToLower(first[0])
	}
	return string(first)
}
