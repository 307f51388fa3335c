package choria

import (
	"fmt"
	"strings"

	"logforward/internal/chunk"
)

// Missing says which right a node's token lacks to publish by a prefix, and the command that grants it.
// Empty: none is missing, or this is no token.
func (c *Config) Missing(prefix string) (string, error) {
	if c.Provider != "choria" {
		return "", nil
	}
	t, err := c.token()
	if err != nil {
		return "", err
	}
	own := chunk.Token(c.Identity)
	need := fmt.Sprintf("%s.*.%s.>", prefix, own)
	granted := false
	for _, s := range t.publish {
		granted = granted || covers(s, need)
	}
	if granted {
		return "", nil
	}
	return fmt.Sprintf("the token of %s doesn't permit to publish %s; grant it with: %s", t.name, need, c.Grant(prefix)), nil
}

// Grant is the command that issues this node's token with the right to publish by a prefix.
func (c *Config) Grant(prefix string) string {
	return fmt.Sprintf("choria jwt server %s %s PUBLIC-KEY ISSUER-SEED --org choria --collectives %s --subjects '%s.*.%s.>'",
		c.Token, c.Identity, c.Collective, prefix, chunk.Token(c.Identity))
}

// covers tells whether all that subject pattern need permits, have permits too.
func covers(have, need string) bool {
	h, n := strings.Split(have, "."), strings.Split(need, ".")
	for i, t := range h {
		switch {
		case t == ">":
			return len(n) > i
		case i >= len(n), n[i] == ">":
			return false
		case t != "*" && t != n[i]:
			return false
		}
	}
	return len(h) == len(n)
}
