package settings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// masked stands for a secret wherever settings are printed.
const masked = "********"

// DefaultFile is the file that a command reads where none is named. It need not be there.
func DefaultFile(command string) string {
	switch command {
	case Forward, Client, Ensure:
		return "/etc/choria/plugin.d/logforward.cfg"
	case Receive, Reader, Setup, Fleet, Verify, Aside:
		return "/etc/logforward/receive.cfg"
	case Broker:
		return "/etc/logforward/broker.cfg"
	}
	return ""
}

// Values are a command's settings as they are in force. Getters of names or types that the command
// doesn't have give zero values.
type Values struct {
	command      string
	values       map[string]value
	destinations map[string]map[string]value
	Warnings     []string // what works, and is likely not meant
}

type value struct {
	setting *Setting
	text    string
	parsed  any
	where   string
}

// Problems are all errors of a configuration together.
type Problems []error

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, err := range p {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is look into each.
func (p Problems) Unwrap() []error { return p }

// given is one assignment, before it is known to be right.
type given struct{ name, text, where string }

// Load reads a command's settings. file may be empty: then [DefaultFile] is read if it is there. env
// is what os.Environ gives. flags may be nil. Its error is [Problems]: all that is wrong, not just the first.
func Load(command, file string, env []string, flags *Flags) (*Values, error) {
	v := &Values{command: command, values: map[string]value{}, destinations: map[string]map[string]value{}}
	var problems Problems
	all := All()
	for i := range all {
		s := &all[i]
		if s.For(command) && !s.Destination {
			parsed, err := s.parse(s.Default)
			if err != nil && s.Default != "" {
				problems = append(problems, fmt.Errorf("default: %w", err))
			}
			v.values[s.Name] = value{s, s.Default, parsed, "default"}
		}
	}
	assignments, err := v.readFile(command, file)
	if err != nil {
		problems = append(problems, err...)
	}
	assignments = append(assignments, environment(env, assignments)...)
	if flags != nil {
		assignments = append(assignments, flags.given()...)
	}
	for _, g := range assignments {
		if err := v.set(all, g); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", g.where, err))
		}
	}
	for _, name := range sorted(v.destinations) {
		if d := v.destinations[name]; d["url"].text == "" && d["choria"].text == "" {
			problems = append(problems, fmt.Errorf("destination %s: neither destination.%s.url nor destination.%s.choria is set", name, name, name))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return v, nil
}

// readFile reads the assignments of a file.
func (v *Values) readFile(command, file string) ([]given, Problems) {
	must := file != ""
	if !must {
		file = DefaultFile(command)
	}
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) && !must {
		return nil, nil
	}
	if err != nil {
		return nil, Problems{fmt.Errorf("settings file: %w: name another with --config, or make it readable", err)}
	}
	defer f.Close()
	list, problems := parseFile(f, file)
	if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o004 != 0 {
		for _, g := range list {
			if secret(g.name) {
				v.Warnings = append(v.Warnings, fmt.Sprintf("%s: %s is secret, and everybody may read the file: chmod 0640 %s", g.where, g.name, file))
			}
		}
	}
	seen := map[string]string{}
	for _, g := range list {
		if first, ok := seen[g.name]; ok {
			v.Warnings = append(v.Warnings, fmt.Sprintf("%s: %s was set before at %s; this one counts", g.where, g.name, first))
		}
		seen[g.name] = g.where
	}
	return list, problems
}

// maxFile and maxLine bound what is read as settings.
const (
	maxFile = 1 << 20
	maxLine = 64 << 10
)

// parseFile reads lines of key = value.
func parseFile(r io.Reader, name string) (list []given, problems Problems) {
	sc := bufio.NewScanner(io.LimitReader(r, maxFile+1))
	sc.Buffer(nil, maxLine)
	n, size := 0, 0
	for sc.Scan() {
		n++
		size += len(sc.Bytes()) + 1
		if size > maxFile+1 {
			// What is behind would be ignored in silence.
			return list, append(problems, fmt.Errorf("%s:%d: the file has more than %d bytes", name, n, maxFile))
		}
		where := fmt.Sprintf("%s:%d", name, n)
		line := strings.TrimSpace(sc.Text())
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		k, text, ok := strings.Cut(line, "=")
		k = strings.TrimSpace(k)
		if !ok || k == "" {
			// Its first word alone: the rest may be a password whose "=" was forgotten.
			problems = append(problems, fmt.Errorf("%s: %.60q… is no key = value", where, strings.Fields(line)[0]))
			continue
		}
		list = append(list, given{k, strings.TrimSpace(text), where})
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		problems = append(problems, fmt.Errorf("%s:%d: the line has more than %d bytes", name, n+1, maxLine))
	} else if err != nil {
		problems = append(problems, fmt.Errorf("%s:%d: %w", name, n+1, err))
	}
	return list, problems
}

const envPrefix = "LOGFORWARD_"

// environment finds the variables that are settings. Other names that begin alike are
// somebody else's (tests' and scripts'), and are left alone; so are empty ones. A destination's
// name is that of the file where it differs only in what a variable's name can't say (DC_1, dc-1).
func environment(env []string, file []given) (list []given) {
	destinations := map[string]string{}
	for _, g := range file {
		if rest, ok := strings.CutPrefix(g.name, "destination."); ok {
			name, _, _ := strings.Cut(rest, ".")
			destinations[strings.ReplaceAll(strings.ToLower(name), "-", "_")] = name
		}
	}
	known := map[string]bool{}
	fields := []string{}
	for _, s := range All() {
		if s.Destination {
			fields = append(fields, s.Name)
		} else {
			known[s.Name] = true
		}
	}
	// The longest first: server_name ends with name, say.
	slices.SortFunc(fields, func(a, b string) int { return len(b) - len(a) })
	for _, e := range env {
		k, text, ok := strings.Cut(e, "=")
		rest, ok2 := strings.CutPrefix(k, envPrefix)
		if !ok || !ok2 || text == "" {
			continue
		}
		name := strings.ToLower(rest)
		if d, ok := strings.CutPrefix(name, "destination_"); ok {
			for _, f := range fields {
				if dest, ok := strings.CutSuffix(d, "_"+f); ok && dest != "" {
					if name, ok := destinations[dest]; ok {
						dest = name
					}
					list = append(list, given{"destination." + dest + "." + f, text, "environment " + k})
					break
				}
			}
		} else if known[name] {
			list = append(list, given{name, text, "environment " + k})
		}
	}
	slices.SortStableFunc(list, func(a, b given) int { return strings.Compare(a.where, b.where) })
	return list
}

// set takes one assignment.
func (v *Values) set(all []Setting, g given) error {
	if rest, ok := strings.CutPrefix(g.name, "destination."); ok {
		return v.setDestination(all, g, rest)
	}
	found := false
	for i := range all {
		s := &all[i]
		if s.Name != g.name || s.Destination {
			continue
		}
		found = true
		parsed, err := s.parse(g.text)
		if err != nil {
			return err
		}
		if s.For(v.command) {
			v.values[s.Name] = value{s, g.text, parsed, g.where}
			v.outdated(s, g)
			return nil
		}
	}
	if !found {
		return unknown(g.name, all)
	}
	return nil // another command's
}

func (v *Values) setDestination(all []Setting, g given, rest string) error {
	name, field, ok := strings.Cut(rest, ".")
	if !ok || !validName(name) {
		return fmt.Errorf("%q is no destination.<name>.<setting>, where a name has letters, digits, _ and -", g.name)
	}
	for i := range all {
		s := &all[i]
		if !s.Destination || s.Name != field {
			continue
		}
		parsed, err := s.parse(g.text)
		if s.For(v.command) {
			if v.destinations[name] == nil {
				v.destinations[name] = map[string]value{}
			}
			v.destinations[name][field] = value{s, g.text, parsed, g.where} // a wrong one, too: it isn't missing
		}
		if err != nil {
			return fmt.Errorf("destination.%s.%w", name, err)
		}
		if s.For(v.command) {
			v.outdated(s, g)
		}
		return nil
	}
	return unknown(g.name, all)
}

// outdated warns of a setting that shall be used no more.
func (v *Values) outdated(s *Setting, g given) {
	if s.Deprecated != "" {
		v.Warnings = append(v.Warnings, fmt.Sprintf("%s: %s is deprecated: %s", g.where, g.name, s.Deprecated))
	}
}

func validName(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return name != "" && len(name) <= 64
}

func secret(name string) bool {
	name = name[strings.LastIndexByte(name, '.')+1:]
	for _, s := range All() {
		if s.Name == name && s.Secret {
			return true
		}
	}
	return false
}

// unknown says so, and names what may have been meant.
func unknown(name string, all []Setting) error {
	best, least := "", 4
	short := name[strings.LastIndexByte(name, '.')+1:]
	for _, s := range all {
		if d := distance(short, s.Name); d < least && s.Destination == strings.HasPrefix(name, "destination.") {
			best, least = s.Name, d
		}
	}
	if best == "" {
		return fmt.Errorf("%.80q is no setting; logforward config lists them", name)
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		best = name[:i+1] + best
	}
	return fmt.Errorf("%.80q is no setting; did you mean %s?", name, best)
}

// distance is how many letters must be changed to make a of b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		corner := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := corner
			if a[i-1] != b[j-1] {
				cost++
			}
			corner = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func get[T any](v *Values, name string) T {
	t, _ := v.values[name].parsed.(T)
	return t
}

// Text gives a text, path or one-of.
func (v *Values) Text(name string) string { return get[string](v, name) }

// List gives a list or globs.
func (v *Values) List(name string) []string { return get[[]string](v, name) }

// Number gives a number, bytes, a rate in bytes per second, or a mode.
func (v *Values) Number(name string) int64 { return get[int64](v, name) }

// Duration gives a duration.
func (v *Values) Duration(name string) time.Duration { return get[time.Duration](v, name) }

// Bool gives yes or no.
func (v *Values) Bool(name string) bool { return get[bool](v, name) }

// IsSet tells whether something else than the default is in force.
func (v *Values) IsSet(name string) bool {
	x, ok := v.values[name]
	return ok && x.where != "default"
}

// Where tells where a setting's value comes from: default, file:line, environment or flag.
func (v *Values) Where(name string) string { return v.values[name].where }

// Destination is where a node forwards to, or the broker that a receiver serves.
type Destination struct {
	URL                         []string
	Choria                      string // file
	ChoriaToken, ChoriaSeed     string // files
	User, Password, Token       string
	NKey, Credentials           string // files
	CA, Certificate, Key        string // files
	ServerName                  string
	Prefix, Compression, Commit string
	Seal                        bool
}

// Destinations gives the named destinations.
func (v *Values) Destinations() map[string]Destination {
	all := All()
	list := make(map[string]Destination, len(v.destinations))
	for name, set := range v.destinations {
		fields := map[string]value{}
		for i := range all {
			if s := &all[i]; s.Destination {
				parsed, _ := s.parse(s.Default) // defaults are tested
				fields[s.Name] = value{s, s.Default, parsed, "default"}
			}
		}
		for f, x := range set {
			fields[f] = x
		}
		list[name] = destination(fields)
	}
	return list
}

// Connection gives the broker of a command that has only one.
func (v *Values) Connection() Destination { return destination(v.values) }

func destination(f map[string]value) Destination {
	text := func(name string) string {
		s, _ := f[name].parsed.(string)
		return s
	}
	urls, _ := f["url"].parsed.([]string)
	seal, _ := f["seal"].parsed.(bool)
	return Destination{URL: urls, Choria: text("choria"), ChoriaToken: text("choria_token"), ChoriaSeed: text("choria_seed"), User: text("user"), Password: text("password"), Token: text("token"), NKey: text("nkey"),
		Credentials: text("credentials"), CA: text("ca"), Certificate: text("certificate"), Key: text("key"), ServerName: text("server_name"),
		Prefix: text("prefix"), Compression: text("compression"), Commit: text("commit"), Seal: seal}
}
