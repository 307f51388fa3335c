package table

import (
	"cmp"
	"slices"
)

// Nearest are the roles that lack least, at most n: what is asked for by somebody whom they are about comes first.
func (v Verdict) Nearest(n int) []Trial {
	var roles []Trial
	for _, t := range v.Trials {
		if !t.Deny && len(t.Missing) > 0 {
			roles = append(roles, t)
		}
	}
	slices.SortStableFunc(roles, func(a, b Trial) int { return cmp.Compare(a.distance(), b.distance()) })
	// Where there is a role for this caller, those for others say nothing; likewise for the action.
	for _, class := range []int{strange, foreign} {
		if i := slices.IndexFunc(roles, func(t Trial) bool { return t.distance() >= class }); i > 0 {
			roles = roles[:i]
			break
		}
	}
	return roles[:min(n, len(roles))]
}

// How far a role is: who asks can hardly be changed, the action is what one wants, the rest is to be said otherwise.
const (
	foreign = 100
	strange = 50
)

func (t Trial) distance() (d int) {
	for _, m := range t.Missing {
		switch m.Field {
		case "callers":
			d += foreign
		case "actions":
			d += strange
		default:
			d++
		}
	}
	return d
}

// Standing are the deny rules that apply.
func (v Verdict) Standing() (rules []Trial) {
	for _, t := range v.Trials {
		if t.Deny && len(t.Missing) == 0 {
			rules = append(rules, t)
		}
	}
	return rules
}
