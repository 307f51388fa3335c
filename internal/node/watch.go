package node

import (
	"context"
	"path/filepath"
	"time"

	"logforward/internal/beat"
	"logforward/internal/tail"
)

// watch looks once a second, and sooner where the kernel says that the definitions directory changed. Notification alone isn't
// enough: it doesn't come of network file systems, nor of links' targets, nor of all where watches are exhausted. Where it is enough, now, for all that the node looks at,
// each second is left out: what reaches its time has a timer, and a rare look finds what was missed after all.
func (n *Node) watch(ctx context.Context) {
	definitions := n.definitions()
	defer definitions.Close()
	defer n.survey.close()
	ticker := beat.NewTicker(n.config.Beat, n.config.Poll)
	defer ticker.Stop()
	n.update(false, 0) // what happened before that was watched
	var due *time.Timer
	for {
		rest, until := n.rests(definitions)
		if rest {
			ticker.Reset(n.config.Rest)
		} else {
			ticker.Reset(n.config.Poll)
		}
		var soon <-chan time.Time
		if wait, ok := n.soon(until); ok {
			if due == nil {
				due = time.NewTimer(wait)
				defer due.Stop()
			} else {
				due.Reset(wait)
			}
			soon = due.C
		}
		for again := true; again; {
			again = false
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-soon:
			case <-n.edited:
			case <-n.survey.fresh:
			case <-n.survey.stirred:
				if !rest {
					again = true // the next tick looks
				}
				continue
			case <-n.nudged:
				continue
			}
			n.update(false, 0)
			n.settleUp()
		}
	}
}

// kick has whoever waits at a channel for one go on.
func kick(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// definitions has the directory of definitions watched; nil, which is never sure, where it can't be.
func (n *Node) definitions() *tail.Directory {
	if n.config.Definitions == "" {
		return nil
	}
	path, err := filepath.Abs(n.config.Definitions)
	if err != nil {
		return nil
	}
	return n.config.Watcher.Directory(path, true, func() { kick(n.edited) })
}

// soon is how long until a look that is due before the next tick; not ok: there is none.
func (n *Node) soon(until time.Time) (wait time.Duration, ok bool) {
	n.mu.Lock()
	unsettled := n.dir.unsettled
	n.mu.Unlock()
	if unsettled {
		wait, ok = settle, true
	}
	if left := until.Sub(n.config.Now()) + time.Millisecond; !until.IsZero() && left < n.config.Rest && (!ok || left < wait) {
		wait, ok = max(left, time.Millisecond), true
	}
	return wait, ok
}

// rests tells whether nothing has to be looked at before an event tells of a change, but what an operator said may reach its time: the first
// does then; zero: none does.
func (n *Node) rests(definitions *tail.Directory) (rest bool, until time.Time) {
	n.mu.Lock()
	rest = n.atRest() && (n.config.Definitions == "" || n.dir.atRest())
	until = n.operators.until()
	var patterns []string
	for _, f := range n.plan.forwarders {
		if f.glob != nil {
			patterns = append(patterns, f.Path)
			if f.glob.waits() {
				n.survey.touch(f.Path)
			}
		}
	}
	n.mu.Unlock()
	rest = rest && (n.config.Definitions == "" || definitions.Sure())
	for _, pattern := range patterns {
		rest = rest && n.survey.rests(pattern)
	}
	return rest, until
}

// atRest tells whether nothing but definitions, globs' files and times can change what is to be done. The lock is held.
func (n *Node) atRest() bool {
	if n.set == nil || n.failure != nil || n.latest != nil || n.depends {
		return false
	}
	for _, f := range n.plan.forwarders {
		if f.glob != nil && (f.glob.unsaved || f.glob.seen != n.survey.last(f.Path)) {
			return false
		}
	}
	n.scopes.mu.Lock()
	defer n.scopes.mu.Unlock()
	return len(n.scopes.fresh) == 0
}

// waits tells whether a file of a glob has vanished whose log is kept for a while.
func (g *glob) waits() bool {
	for _, c := range g.Files {
		if !c.Gone.IsZero() {
			return true
		}
	}
	return false
}
