package settings

import (
	"fmt"
	"strings"
)

// Puppet gives the Puppet module's types of settings, by file name: what Puppet accepts is what a
// daemon would, as far as a pattern can tell, and no value can begin a second line.
func Puppet() map[string]string {
	return map[string]string{
		"forward_settings.pp": puppetType("Forward_settings", "Settings of the node's daemon, as in "+DefaultFile(Forward)+" without its destinations.", Forward, false),
		"destination.pp":      puppetType("Destination", "A destination of a node: where a broker is, and how it is entered.", Forward, true),
		"receive_settings.pp": puppetType("Receive_settings", "Settings of a receiver, as in "+DefaultFile(Receive)+".", Receive, false),
		"setup_settings.pp":   puppetType("Setup_settings", "What streams are like: settings of logforward setup, which connects as the receiver does.", Setup, false),
	}
}

func puppetType(name, about, command string, destination bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by: make docs. Changes belong into internal/settings.\n#\n# @summary %s\n#\n", about)
	var fields strings.Builder
	for _, s := range All() {
		// What setup connects by is the receiver's; dry_run is a question, no setting.
		if !s.For(command) || s.Destination != destination || command == Setup && (s.For(Receive) || s.Name == "dry_run") {
			continue
		}
		fmt.Fprintf(&b, "# * `%s`: %s", s.Name, s.meaning())
		if s.Default != "" {
			fmt.Fprintf(&b, " Default: `%s`.", s.Default)
		}
		b.WriteByte('\n')
		fmt.Fprintf(&fields, "  Optional['%s'] => %s,\n", s.Name, s.puppet())
	}
	fmt.Fprintf(&b, "type Mcollective_agent_logforward::%s = Struct[{\n%s}]\n", name, fields.String())
	return b.String()
}

// puppet is the setting's type in Puppet's language.
func (s *Setting) puppet() string {
	const (
		line  = `Pattern[/\A[^\r\n\0]*\z/]`
		bytes = `\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?` // as package quantity reads them
	)
	t := line
	switch s.Type {
	case Int:
		t = "Integer" + s.puppetRange()
	case Bytes:
		t = `Variant[Integer` + s.puppetRange() + `, Pattern[/\A` + bytes + `\z/]]`
	case Rate:
		t = `Variant[Integer[0], Enum['unlimited'], Pattern[/\A` + bytes + `(\/s)?\z/]]`
	case Duration:
		t = `Variant[Integer[0, 0], Pattern[/\A(0|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\z/]]`
	case Bool:
		t = `Variant[Boolean, Enum['yes', 'no']]`
	case Enum:
		t = "Enum['" + strings.Join(s.Enum, "', '") + "']"
	case Path:
		t = `Pattern[/\A(\/[^\r\n\0]*)?\z/]`
	case List, Globs, URLs:
		t = `Variant[` + line + `, Array[` + line + `]]`
	case Mode:
		t = `Pattern[/\A0?[0-7]{3}\z/]`
	}
	if s.Secret || s.Type == URLs { // which may have a password in it
		t = "Variant[" + t + ", Sensitive[" + t + "]]"
	}
	return t
}

func (s *Setting) puppetRange() string {
	if s.Max > 0 {
		return fmt.Sprintf("[%d, %d]", s.Min, s.Max)
	}
	return fmt.Sprintf("[%d]", s.Min)
}
