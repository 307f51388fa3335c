package settings

import (
	"slices"
	"strings"

	"github.com/choria-io/fisk"
)

// Flags are the settings that a command line gives.
type Flags struct {
	texts        []*flagText
	destinations []string
}

type flagText struct {
	name string
	text string
	set  bool
}

// Set and String make a flagText a fisk value that knows whether it was given.
func (f *flagText) Set(s string) error { f.text, f.set = s, true; return nil }

func (f *flagText) String() string { return f.text }

// boolText is a flag that needs no value: --dry-run says yes.
type boolText struct{ *flagText }

// IsBoolFlag is what fisk asks a value for that.
func (boolText) IsBoolFlag() bool { return true }

// Register gives a command a flag for each of its settings: --rotate-size for rotate_size. Destinations are
// given as --destination name.setting=value, as often as needed. What is wrong with a value shows in [Load]. Those of hidden
// are taken, and no help speaks of them: commands that share their settings don't use all of them.
func Register(cmd *fisk.CmdClause, command string, hidden ...string) *Flags {
	f := &Flags{}
	destinations := false
	for _, s := range All() {
		if !s.For(command) {
			continue
		}
		if s.Destination {
			destinations = true
			continue
		}
		t := &flagText{name: s.Name}
		f.texts = append(f.texts, t)
		clause := cmd.Flag(flagName(s.Name), s.Help).PlaceHolder(s.placeholder())
		if slices.Contains(hidden, s.Name) {
			clause.Hidden()
		}
		if s.Type == Bool {
			clause.SetValue(boolText{t})
		} else {
			clause.SetValue(t)
		}
	}
	if destinations {
		cmd.Flag("destination", "A setting of a destination, as name.setting=value; may be repeated.").PlaceHolder("NAME.SETTING=VALUE").StringsVar(&f.destinations)
	}
	return f
}

// flagName is a setting's flag, without the dashes before it.
func flagName(name string) string { return strings.ReplaceAll(name, "_", "-") }

func (s *Setting) placeholder() string {
	switch {
	case s.Secret || s.Default == "":
		return strings.ToUpper(strings.ReplaceAll(string(s.Type), " ", "-"))
	}
	return s.Default
}

func (f *Flags) given() (list []given) {
	for _, t := range f.texts {
		if t.set {
			list = append(list, given{t.name, t.text, "flag --" + flagName(t.name)})
		}
	}
	for _, d := range f.destinations {
		name, text, _ := strings.Cut(d, "=")
		list = append(list, given{"destination." + name, text, "flag --destination"})
	}
	return list
}
