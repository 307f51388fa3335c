package table

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	wrong "github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"logforward/policies"
)

// SchemaFile is the table's JSON schema in [policies.Files].
const SchemaFile = "operators.schema.json"

// validate compares a document with the schema, and adds what is wrong to its errors.
func (s *source) validate() error {
	text, err := policies.Files.ReadFile(SchemaFile)
	if err != nil {
		return fmt.Errorf("the table's schema: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("the table's schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaFile, doc); err != nil {
		return fmt.Errorf("the table's schema: %w", err)
	}
	schema, err := c.Compile(SchemaFile)
	if err != nil {
		return fmt.Errorf("the table's schema: %w", err)
	}
	var invalid *jsonschema.ValidationError
	switch err := schema.Validate(s.value); {
	case err == nil:
	case errors.As(err, &invalid):
		s.report(invalid)
	default:
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// report says what is wrong at the innermost places.
func (s *source) report(e *jsonschema.ValidationError) {
	if name, ok := e.ErrorKind.(*wrong.PropertyNames); ok {
		at := pointerTo(e.InstanceLocation) + pointer(name.Property)
		s.fault(at, "%.80q is no name: %s", name.Property, nameRule(e.InstanceLocation))
		return
	}
	for _, cause := range e.Causes {
		s.report(cause)
	}
	if len(e.Causes) > 0 {
		return
	}
	at := pointerTo(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *wrong.AdditionalProperties:
		for _, name := range k.Properties {
			s.fault(at+pointer(name), "unknown field%s", s.known(e.SchemaURL))
		}
	case *wrong.Required:
		s.fault(at, "%s missing", strings.Join(k.Missing, " and ")+map[bool]string{true: " is", false: " are"}[len(k.Missing) == 1])
	case *wrong.Enum:
		s.fault(at, "%.80q is none of %s", fmt.Sprint(k.Got), words(k.Want))
	case *wrong.Type:
		s.fault(at, "want %s, found %s", strings.Join(each(k.Want, asYAML), " or "), asYAML(k.Got))
	default:
		s.fault(at, "%s", e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
	}
}

func nameRule(location []string) string {
	if len(location) > 0 && location[len(location)-1] == "facts" {
		return "a fact's name holds letters, digits, _ : -, and dots between names within names"
	}
	return "a name begins with a letter or digit, and holds a-z 0-9 _ - only, at most 64"
}

// known lists the fields of what a schema describes.
func (s *source) known(url string) string {
	fields := map[string]any{"": Table{}, "/$defs/role": Role{}, "/$defs/denyRule": DenyRule{}, "/$defs/times/items": Window{}}
	_, fragment, _ := strings.Cut(url, "#")
	v, ok := fields[fragment]
	if !ok {
		return ""
	}
	return "; known: " + strings.Join(jsonFields(v), ", ")
}

func asYAML(t string) string {
	switch t {
	case "array":
		return "a list"
	case "object":
		return "fields"
	case "string":
		return "a text"
	case "integer":
		return "a whole number"
	case "boolean":
		return "true or false"
	}
	return "a " + t
}

func each(list []string, f func(string) string) []string {
	var out []string
	for _, s := range list {
		if t := f(s); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func words(list []any) string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return strings.Join(out, ", ")
}

func pointerTo(location []string) string {
	var b strings.Builder
	for _, part := range location {
		b.WriteString(pointer(part))
	}
	return b.String()
}
