package table

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"logforward/policies"
)

// SchemaFile is the table's JSON schema in [policies.Files].
const SchemaFile = "operators.schema.json"

// violation is what OPA's validator says about one place.
type violation struct {
	Type  string `json:"type"`
	Field string `json:"field"` // roles.oncall.callers.2
	Desc  string `json:"desc"`
}

// validate compares a document with the schema, and adds what is wrong to its errors. OPA's own validator does it:
// another one would cost every start of the program some milliseconds.
func (s *source) validate() error {
	schema, err := policies.Files.ReadFile(SchemaFile)
	if err != nil {
		return fmt.Errorf("the table's schema: %w", err)
	}
	document, err := json.Marshal(s.value)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if _, ok := s.value.(map[string]any); !ok {
		s.fault("", `want "field: value" lines with version and roles`)
		return nil
	}
	match := topdown.GetBuiltin(ast.JSONMatchSchema.Name)
	var result any
	err = match(topdown.BuiltinContext{}, []*ast.Term{ast.StringTerm(string(document)), ast.StringTerm(string(schema))}, func(t *ast.Term) (err error) {
		result, err = ast.JSON(t.Value)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: compare with the schema: %w", s.name, err)
	}
	var violations []violation
	b, err := json.Marshal(result.([]any)[1])
	if err == nil {
		err = json.Unmarshal(b, &violations)
	}
	if err != nil {
		return fmt.Errorf("%s: compare with the schema: %w", s.name, err)
	}
	slices.SortStableFunc(violations, func(a, b violation) int { return cmp.Compare(a.Field, b.Field) })
	for _, v := range violations {
		s.report(v)
	}
	return nil
}

func (s *source) report(v violation) {
	at, value := s.resolve(v.Field)
	between := func(from, to string) string {
		return strings.TrimSuffix(strings.TrimPrefix(v.Desc, from), to)
	}
	switch v.Type {
	case "additional_property_not_allowed":
		s.fault(at+pointer(between("Additional property ", " is not allowed")), "unknown field; known: %s", strings.Join(fieldsAt(at), ", "))
	case "required":
		s.fault(at, "%s is missing", between("", " is required"))
	case "invalid_property_name":
		name := between(`Property name of "`, `" does not match`)
		s.fault(at+pointer(name), "%.80q is no name: %s", name, nameRule(at))
	case "pattern": // said with the name already
		if _, isText := value.(string); isText {
			s.fault(at, "%.80q doesn't fit: %s", value, v.Desc)
		}
	case "enum":
		_, allowed, _ := strings.Cut(v.Desc, " must be one of the following: ")
		s.fault(at, "%.80q is none of %s", fmt.Sprint(value), strings.ReplaceAll(allowed, `"`, ""))
	case "const":
		s.fault(at, "%.80q isn't %d, the version that is known here", fmt.Sprint(value), Version)
	case "invalid_type":
		expected, given, _ := strings.Cut(between("Invalid type. Expected: ", ""), ", given: ")
		s.fault(at, "want %s, found %s", asYAML(expected), asYAML(given))
	default:
		s.fault(at, "%s", v.Desc)
	}
}

// resolve finds what a validator's path means: the names in it may hold dots themselves.
func (s *source) resolve(path string) (at string, value any) {
	value = s.value
	if path == "(root)" {
		return "", value
	}
	for rest := path; rest != ""; {
		next, tail := "", ""
		switch v := value.(type) {
		case map[string]any:
			for name := range v {
				if after, ok := strings.CutPrefix(rest, name); ok && (after == "" || after[0] == '.') && len(name) >= len(next) {
					next, tail = name, strings.TrimPrefix(after, ".")
				}
			}
			if _, ok := v[next]; !ok {
				return at, value
			}
			at, value = at+pointer(next), v[next]
		case []any:
			next, tail, _ = strings.Cut(rest, ".")
			i, err := strconv.Atoi(next)
			if err != nil || i < 0 || i >= len(v) {
				return at, value
			}
			at, value = at+pointer(i), v[i]
		default:
			return at, value
		}
		rest = tail
	}
	return at, value
}

func nameRule(at string) string {
	if strings.HasSuffix(at, "/facts") {
		return "a fact's name holds letters, digits, _ : -, and dots between names within names"
	}
	return "a name begins with a letter or digit, and holds a-z 0-9 _ - only, at most 64"
}

// fieldsAt lists the fields that there are at a place.
func fieldsAt(at string) []string {
	parts := strings.Split(at, "/")
	switch {
	case at == "":
		return jsonFields(Table{})
	case slices.Contains(parts, "times"):
		return jsonFields(Window{})
	case parts[1] == "roles":
		return jsonFields(Role{})
	}
	return jsonFields(DenyRule{})
}

// asYAML says types as people do who write YAML.
func asYAML(types string) string {
	names := map[string]string{"array": "a list", "object": "fields", "string": "a text", "integer": "a whole number", "boolean": "true or false", "number": "a number", "null": "nothing"}
	var out []string
	for t := range strings.SplitSeq(strings.Trim(types, "[]"), ",") {
		if name, ok := names[t]; ok {
			t = name
		}
		out = append(out, t)
	}
	return strings.Join(out, " or ")
}
