package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/node"
	"logforward/internal/tail"
)

// auditSettings say where decisions are written, and where they are sent.
type auditSettings struct {
	file        string // empty: none
	size        int64
	count       int
	destination string // empty: they stay here
}

func auditing(v *values, c forward.Config) (auditSettings, error) {
	a := auditSettings{v.Text("audit_log"), v.Number("audit_rotate_size"), int(v.Number("audit_retain_count")), v.Text("audit_destination")}
	if a.destination == "" {
		return a, nil
	}
	if _, ok := c.Destinations[a.destination]; !ok {
		return a, fmt.Errorf("audit_destination: %q is not one of this node's destinations: %s", a.destination, strings.Join(destinationNames(c.Destinations), ", "))
	}
	if a.file == "" {
		return a, fmt.Errorf("audit_destination is set, and audit_log is not: there is nothing to forward")
	}
	if err := control.CheckPath(a.file); err != nil || strings.ContainsAny(a.file, `*?[{\`) {
		return a, fmt.Errorf("audit_log: %s can't be forwarded: want an absolute path without wildcards", a.file)
	}
	return a, nil
}

// own is the log that the file is forwarded as; none: it isn't.
func (a auditSettings) own() ([]node.Own, error) {
	if a.destination == "" {
		return nil, nil
	}
	// The directory must be there for its links to be resolved.
	if err := os.MkdirAll(filepath.Dir(a.file), 0o750); err != nil {
		return nil, fmt.Errorf("audit_log: %w", err)
	}
	return []node.Own{{
		Definition: node.Definition{Log: audit.LogName, Path: a.file, Destination: a.destination, Start: tail.StartBeginning},
		Setting:    "the setting audit_destination",
	}}, nil
}

// readable adds the file and its older ones to what the engine may read. No other log may have them by this.
func (a auditSettings) readable(allowed tail.Allowed) (tail.Allowed, error) {
	if a.destination == "" {
		return allowed, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(a.file))
	if err != nil {
		return allowed, fmt.Errorf("audit_log: %w", err)
	}
	file := tail.QuoteGlob(filepath.Join(dir, filepath.Base(a.file)))
	return allowed.Or(file, file+".*")
}

// open makes the log; nothing is touched. Files that the destination hasn't confirmed are kept longer.
func (a auditSettings) open(identity string, engine *forward.Engine) *audit.Log {
	l := audit.New(a.file, identity, a.size, a.count)
	if a.destination == "" {
		return l
	}
	l.Unsent = func() (int64, bool) {
		for _, s := range engine.Status(audit.LogName) {
			if s.Log == audit.LogName {
				// One that is paused or has no broker doesn't look at its files.
				return s.LagBytes, s.State == forward.Idle || s.State == forward.Forwarding
			}
		}
		return 0, false
	}
	return l
}
