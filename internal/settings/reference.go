package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Description is a setting as logforward config shows it.
type Description struct {
	Name        string   `json:"name"`                 // as files have it
	Type        string   `json:"type"`                 // such as duration or size
	Accepts     string   `json:"accepts"`              // what a value must be
	Default     string   `json:"default"`              // empty: none
	Value       string   `json:"value,omitempty"`      // in force; secrets are masked
	Where       string   `json:"where,omitempty"`      // file and line, variable or flag that sets it, or default; absent for what this command doesn't have
	Help        string   `json:"help"`                 // what it means
	Commands    []string `json:"commands"`             // the commands that have it
	Environment string   `json:"environment"`          // variable that sets it
	Flag        string   `json:"flag"`                 // that sets it, of each of the commands
	Secret      bool     `json:"secret,omitempty"`     // its value is masked
	Deprecated  string   `json:"deprecated,omitempty"` // what to use in its place
}

// describe tells of a setting; name is the destination's, where it is one's.
func (s *Setting) describe(name string) Description {
	d := Description{Name: s.Name, Type: s.typeName(), Accepts: s.accepts(), Default: s.Default, Help: s.Help, Commands: s.Commands, Secret: s.Secret, Deprecated: s.Deprecated,
		Environment: envPrefix + strings.ToUpper(s.Name), Flag: "--" + flagName(s.Name)}
	if s.Destination {
		d.Name = "destination." + name + "." + s.Name
		d.Environment = envPrefix + "DESTINATION_" + strings.ReplaceAll(strings.ToUpper(name), "-", "_") + "_" + strings.ToUpper(s.Name)
		d.Flag = "--destination " + name + "." + s.Name + "=…"
	}
	return d
}

// Describe gives the settings whose name or help matches. v may be nil: then no values are shown.
func Describe(v *Values, match *regexp.Regexp) []Description {
	var list []Description
	for _, s := range All() {
		d := s.describe("<name>")
		if match != nil && !match.MatchString(d.Name) && !match.MatchString(d.Help) {
			continue
		}
		switch {
		case v == nil:
		case s.Destination && s.For(v.command):
			for _, name := range sorted(v.destinations) {
				if x, ok := v.destinations[name][s.Name]; ok {
					e := s.describe(name)
					e.Value, e.Where = x.shown(), x.where
					list = append(list, e)
				}
			}
		case s.For(v.command):
			x := v.values[s.Name]
			d.Value, d.Where = x.shown(), x.where
		}
		list = append(list, d)
	}
	return list
}

func sorted[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (x value) shown() string {
	if x.setting != nil && x.setting.Secret && x.text != "" {
		return masked
	}
	if x.setting != nil && x.setting.Type == URLs {
		return maskURLs(x.text)
	}
	return x.text
}

// maskURLs hides the user's part of each URL, which holds a password or is a token. It needs no URL that
// can be parsed: a mistyped one holds its password as well.
func maskURLs(text string) string {
	list := split(text, false)
	for i, u := range list {
		scheme, rest, ok := strings.Cut(u, "://")
		if !ok {
			scheme, rest = "", u
		} else {
			scheme += "://"
		}
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			list[i] = scheme + masked + rest[at:]
		}
	}
	return strings.Join(list, ", ")
}

// accepts says what a value must be.
func (s *Setting) accepts() string {
	text := map[Type]string{
		Text: "any text", Int: "a whole number", Bytes: "a size such as 64MiB, 1GB or 4096", Rate: "a size per second such as 5MiB/s, or unlimited", Duration: "a duration such as 500ms, 90m, 2h or 1d",
		Bool: "yes or no", Enum: "one of " + strings.Join(s.Enum, ", "), Path: "a path", List: "a list, with commas or spaces", URLs: "URLs, with commas or spaces", Globs: "a list of absolute patterns", Mode: "an octal mode up to 0777",
	}[s.Type]
	switch {
	case s.Max > 0:
		text += ", from " + s.show(s.Min) + " to " + s.show(s.Max)
	case s.Min > 0:
		text += ", at least " + s.show(s.Min)
	}
	return text
}

func (s *Setting) typeName() string {
	if s.Type == Enum {
		return "one of " + strings.Join(s.Enum, ", ")
	}
	return string(s.Type)
}

// meaning is the help, with what stands in the way of using it.
func (s *Setting) meaning() string {
	if s.Deprecated != "" {
		return "Deprecated: " + s.Deprecated + ". " + s.Help
	}
	return s.Help
}

// sections are the commands of the reference, in its order.
var sections = [...]string{Forward, Ensure, Receive, Broker, Setup, Run}

// Reference is the whole list as Markdown: docs/settings.md is made of it.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings

<!-- Made by: make docs. Changes belong into internal/settings. -->

A setting is given by a flag, by the environment, in a file, or left at its default; the first of these that says something counts:

    logforward receive --rotate-size 1GiB
    LOGFORWARD_ROTATE_SIZE=1GiB logforward receive
    rotate_size = 1GiB                 in the file that --config names

Files are read by ` + "`forward`, and the commands that steer it, from `" + DefaultFile(Forward) + "`, by `receive`, `setup` and all that looks at the centre (`receivers`, `drain`, `locate`, `fleet`, `tap`, `cat`, `ledger`, `verify`) from `" + DefaultFile(Receive) + "` and by `broker` from `" + DefaultFile(Broker) + "`" + ` unless --config names
another. Bytes are written as ` + "`64MiB`, `1GB` or `4096`, rates as `5MiB/s`, durations as `500ms`, `90m`, `2h`, `1d`" + `, lists with commas or spaces.
` + "`logforward config [REGEX]`" + ` shows what is in force, and where it was set.
`)
	for _, section := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| setting | value | default | meaning |\n|---|---|---|---|\n", "logforward "+section)
		for _, s := range All() {
			if !s.For(section) {
				continue
			}
			name := s.Name
			if s.Destination {
				name = "destination.&lt;name&gt;." + name
			}
			def := s.Default
			if def != "" {
				def = "`" + def + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, s.accepts(), def, strings.ReplaceAll(s.meaning(), "|", "\\|"))
		}
	}
	return b.String()
}
