package table

import (
	"regexp"
	"slices"
	"strings"
)

// kind says what a glob's wildcards stop at.
type kind int

const (
	textGlob   kind = iota // logs, destinations, collectives, classes, values of facts: at nothing
	callerGlob             // at "=", which ends the form: up=*
	pathGlob               // at "/"; ** as a whole part stands for any number of directories
)

// tree is how ** stands in a path that is compared: a character that no path holds.
const tree = '\t'

// piece is one step of a glob.
type piece struct {
	what wildcard
	char rune // of a literal
}

type wildcard int

const (
	literal wildcard = iota
	one              // ?
	many             // *
	between          // ** and its slash: nothing, or directories
	below            // ** at the end: something, at any depth
)

// glob is a pattern of the table. Every character but * and ? means itself, in its own case.
type glob struct {
	text   string
	kind   kind
	pieces []piece
	plain  bool // without wildcards
}

// newGlob reads a pattern that the table's checks have let through.
func newGlob(text string, k kind) glob {
	g := glob{text: text, kind: k}
	if k == callerGlob && text == "*" { // anybody, whatever the form
		g.kind, g.pieces = textGlob, []piece{{what: one}, {what: many}}
		return g
	}
	chars := []rune(text)
	for i := 0; i < len(chars); i++ {
		switch c := chars[i]; {
		case c == '?':
			g.pieces = append(g.pieces, piece{what: one})
		case c != '*':
			g.pieces = append(g.pieces, piece{char: c})
		case k != pathGlob || i+1 >= len(chars) || chars[i+1] != '*':
			g.pieces = append(g.pieces, piece{what: many})
		case i+2 < len(chars):
			g.pieces = append(g.pieces, piece{what: between})
			i += 2
		default:
			g.pieces = append(g.pieces, piece{what: below})
			i++
		}
	}
	g.plain = !slices.ContainsFunc(g.pieces, func(p piece) bool { return p.what != literal })
	return g
}

func globs(texts []string, k kind) []glob {
	list := make([]glob, 0, len(texts))
	for _, t := range texts {
		list = append(list, newGlob(t, k))
	}
	return list
}

// expression is the glob as a regular expression of RE2, anchored.
func (g glob) expression() string {
	stops := map[kind]string{textGlob: "", callerGlob: "=", pathGlob: "/"}[g.kind]
	single := stops
	if g.kind == pathGlob {
		single += "*" // the asked-for path may be a glob itself, and its * is more than one character
	}
	var b strings.Builder
	b.WriteByte('^')
	for _, p := range g.pieces {
		switch p.what {
		case literal:
			b.WriteString(regexp.QuoteMeta(string(p.char)))
		case one:
			b.WriteString("[^" + single + "[:cntrl:]]")
		case many:
			b.WriteString("[^" + stops + "[:cntrl:]]*")
		case between:
			b.WriteString("(.+/)?")
		case below:
			b.WriteString(".+")
		}
	}
	b.WriteByte('$')
	return b.String()
}

// match compares without regular expressions. A path is compared as [compared] gives it.
func (g glob) match(text string) bool {
	if g.plain {
		return text == g.text
	}
	return match(g.pieces, []rune(text), g.takes)
}

// takes tells whether a wildcard stands for a character.
func (g glob) takes(w wildcard, c rune) bool {
	switch {
	case c == '\n':
		return false
	case w == below || w == between:
		return true
	case c < ' ' || c == 0x7f:
		return false
	case g.kind == callerGlob:
		return c != '='
	case g.kind == pathGlob:
		return c != '/' && (c != '*' || w == many)
	}
	return true
}

func match(pieces []piece, text []rune, takes func(wildcard, rune) bool) bool {
	// reached[j]: the pieces so far can end before text[j].
	reached := make([]bool, len(text)+1)
	reached[0] = true
	for _, p := range pieces {
		next := make([]bool, len(text)+1)
		for j, ok := range reached {
			if !ok {
				continue
			}
			switch p.what {
			case literal:
				if j < len(text) && text[j] == p.char {
					next[j+1] = true
				}
			case one:
				if j < len(text) && takes(one, text[j]) {
					next[j+1] = true
				}
			default:
				next[j] = next[j] || p.what != below
				for k := j; k < len(text) && takes(p.what, text[k]); k++ {
					if p.what != between || text[k] == '/' && k > j {
						next[k+1] = true
					}
				}
			}
		}
		reached = next
	}
	return reached[len(text)]
}

// compared is a path as globs compare it: ** is [tree], a class is "?". A path that isn't clean, or
// whose glob may mean anything, such as one with braces, isn't one.
func compared(path string) (string, bool) {
	if !strings.HasPrefix(path, "/") {
		return "", false
	}
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return "", false
		}
		plain, ok := withoutClasses(part)
		if !ok {
			return "", false
		}
		if plain == "**" {
			plain = string(tree)
		}
		parts[i] = plain
	}
	return "/" + strings.Join(parts, "/"), true
}

// withoutClasses replaces [a-z] by ?, which is wider.
func withoutClasses(part string) (string, bool) {
	const no = `[]!^*?{}\`
	var b strings.Builder
	for part != "" {
		i := strings.IndexAny(part, `[]{}\`)
		if i < 0 {
			b.WriteString(part)
			break
		}
		b.WriteString(part[:i])
		if part[i] != '[' {
			return "", false
		}
		rest := part[i+1:]
		if rest != "" && (rest[0] == '!' || rest[0] == '^') {
			rest = rest[1:]
		}
		end := strings.IndexAny(rest, no)
		if end < 1 || rest[end] != ']' {
			return "", false
		}
		b.WriteByte('?')
		part = rest[end+1:]
	}
	return b.String(), true
}

// within tells that all that g matches is matched by one of the others.
func (g glob) within(others []glob) bool {
	for _, o := range others {
		text := g.text
		if g.kind == pathGlob && o.kind == pathGlob {
			text, _ = compared(text)
		}
		if o.text == g.text || g.plain && o.match(g.text) || o.kind == pathGlob && o.match(text) || o.kind != pathGlob && covers(o, g) {
			return true
		}
	}
	return false
}

// covers is containment of names: o's * may stand for g's wildcards, too.
func covers(o, g glob) bool {
	if o.kind == callerGlob && g.kind == textGlob {
		return false // only "anybody" has that kind among callers
	}
	text := make([]rune, 0, len(g.pieces))
	for _, p := range g.pieces {
		switch p.what {
		case literal:
			text = append(text, p.char)
		case one:
			text = append(text, anyOne)
		default:
			text = append(text, anyMany)
		}
	}
	return match(o.pieces, text, func(w wildcard, c rune) bool {
		switch c {
		case anyOne:
			return true
		case anyMany:
			return w == many
		}
		return o.takes(w, c)
	})
}

// Wildcards as characters that no name holds: noncharacters of Unicode.
const (
	anyOne  = '\uFDD0'
	anyMany = '\uFDD1'
)
