package node

import "strings"

// automaton is a glob of [doublestar] as a nondeterministic automaton. A class such as [a-z] is any character there: wider than it is. With braces
// all wildcards are, and slashes may be missing: what an alternative begins or ends with makes another wildcard with what is beside it.
type automaton struct {
	braces bool
	steps  [][]step // of each state
	end    int
}

// step leads to a state by one character, or by none.
type step struct {
	by stepKind
	c  rune // of aCharacter
	to int
}

type stepKind uint8

const (
	nothing stepKind = iota
	aCharacter
	notSlash
	anything
)

// mayShare tells whether two globs, or paths as [tail.QuoteGlob] writes them, can match one path. It doubts in favour of yes, also when budget,
// which counts pairs of states that were looked at, is used up.
func mayShare(a, b string, budget *int) bool {
	x, y := literal(a), literal(b)
	if !strings.HasPrefix(x, y) && !strings.HasPrefix(y, x) {
		return false
	}
	left, right := newAutomaton(a), newAutomaton(b)
	seen := map[[2]int]bool{}
	todo := [][2]int{{}}
	visit := func(i, j int) {
		if at := [2]int{i, j}; !seen[at] {
			seen[at] = true
			todo = append(todo, at)
		}
	}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at == [2]int{left.end, right.end} {
			return true
		}
		if *budget--; *budget < 0 {
			return true
		}
		for _, s := range left.steps[at[0]] {
			if s.by == nothing {
				visit(s.to, at[1])
				continue
			}
			for _, o := range right.steps[at[1]] {
				if o.by != nothing && s.meets(o) {
					visit(s.to, o.to)
				}
			}
		}
		for _, o := range right.steps[at[1]] {
			if o.by == nothing {
				visit(at[0], o.to)
			}
		}
	}
	return false
}

// literal is what surely begins each path that a glob matches: whole directories, unescaped.
func literal(glob string) string {
	var b strings.Builder
	end := 0
	for i := 0; i < len(glob) && !strings.ContainsRune("*?[{", rune(glob[i])); i++ {
		if glob[i] == '\\' && i+1 < len(glob) {
			i++
		}
		b.WriteByte(glob[i])
		if glob[i] == '/' {
			end = b.Len()
		}
	}
	return b.String()[:end]
}

func (s step) meets(o step) bool {
	switch {
	case s.by == anything || o.by == anything:
		return true
	case s.by == aCharacter && o.by == aCharacter:
		return s.c == o.c
	case s.by == aCharacter:
		return s.c != '/'
	case o.by == aCharacter:
		return o.c != '/'
	}
	return true
}

func newAutomaton(glob string) *automaton {
	a := &automaton{braces: strings.ContainsRune(glob, '{')}
	end, _ := a.read([]rune(strings.TrimRight(glob, "/")), a.state(), false)
	a.end = end
	return a
}

func (a *automaton) state() int {
	a.steps = append(a.steps, nil)
	return len(a.steps) - 1
}

func (a *automaton) add(from int, s step) { a.steps[from] = append(a.steps[from], s) }

// read adds a glob behind a state, up to its end or, inside braces, to what ends an alternative. It gives the state at its end, and what
// it didn't read.
func (a *automaton) read(glob []rune, at int, inside bool) (int, []rune) {
	single := func(by stepKind, c rune) {
		to := a.state()
		a.add(at, step{by, c, to})
		at = to
	}
	for before, c := rune(0), rune(0); len(glob) > 0; before = c {
		c = glob[0]
		if inside && (c == ',' || c == '}') {
			break
		}
		glob = glob[1:]
		switch c {
		case '\\':
			if len(glob) > 0 {
				c, glob = glob[0], glob[1:]
			}
			single(aCharacter, c)
		case '?':
			single(a.widened(notSlash), 0)
		case '[':
			glob = behindClass(glob)
			single(anything, 0)
		case '*':
			by := a.widened(notSlash)
			for len(glob) > 0 && glob[0] == '*' {
				by, glob = anything, glob[1:]
			}
			loop, next := a.state(), a.state()
			a.add(at, step{nothing, 0, loop})
			a.add(loop, step{by, 0, loop})
			if before == '/' && by == anything && len(glob) > 0 && glob[0] == '/' { // directories, or none
				a.add(loop, step{aCharacter, '/', next})
				a.add(at, step{nothing, 0, next})
				c, glob = '/', glob[1:]
			} else {
				a.add(loop, step{nothing, 0, next})
			}
			at = next
		case '{':
			end := a.state()
			for {
				from := a.state()
				a.add(at, step{nothing, 0, from})
				var to int
				to, glob = a.read(glob, from, true)
				a.add(to, step{nothing, 0, end})
				if len(glob) == 0 {
					break
				}
				c, glob = glob[0], glob[1:]
				if c == '}' {
					break
				}
			}
			at = end
		case '/':
			if strings.HasPrefix(string(glob), "**") && strings.Trim(string(glob), "*/") == "" { // what is before it matches, too
				slash, next := a.state(), a.state()
				a.add(at, step{nothing, 0, next})
				a.add(at, step{aCharacter, '/', slash})
				a.add(slash, step{anything, 0, slash})
				a.add(slash, step{nothing, 0, next})
				return next, nil
			}
			if a.braces {
				next := a.state()
				a.add(at, step{nothing, 0, next})
				a.add(at, step{aCharacter, '/', next})
				at = next
				break
			}
			single(aCharacter, '/')
		default:
			single(aCharacter, c)
		}
	}
	return at, glob
}

func (a *automaton) widened(by stepKind) stepKind {
	if a.braces {
		return anything
	}
	return by
}

// behindClass is what follows a class whose "[" was read.
func behindClass(glob []rune) []rune {
	for i := 0; i < len(glob); i++ {
		switch {
		case glob[i] == '\\':
			i++
		case glob[i] == ']' && i > 0:
			return glob[i+1:]
		}
	}
	return nil
}
