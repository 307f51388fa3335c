package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"logforward/internal/control"
)

// Redirect sends a log to another destination. It stands above the definition until the log is
// redirected to where that says. The engine has the old destination confirm all that was sent there
// before the new one gets what comes behind it.
func (n *Node) Redirect(ctx context.Context, c control.Caller, r control.RedirectRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, g ground) (control.Reply, error) {
		f, at := n.plan.find(r.Log)
		if f == nil {
			return control.Reply{}, n.unknown(r.Log)
		}
		if !slices.Contains(n.config.Destinations, r.Destination) {
			return control.Reply{}, control.Errorf(control.CodeRefused, "redirect %s: destination %q is not configured on this node", r.Log, r.Destination).WithHint("known: %s", n.known())
		}
		// With one destination only, a definition needs to name none.
		from, defined := f.Destination, f.defined
		if defined == "" && len(n.config.Destinations) == 1 {
			defined = n.config.Destinations[0]
		}
		if at >= 0 {
			from, defined = f.members[at].destination, f.Destination
		}
		reply := control.Reply{Log: r.Log, State: "redirecting", Logs: f.logs(at)}
		old := n.operators.get(r.Log)
		if from == r.Destination && (at >= 0 || !n.strays(f)) {
			reply.State, reply.Message = "forwarding", fmt.Sprintf("%s goes to %s already", r.Log, r.Destination)
			return reply, nil
		}
		said := word(control.VerbRedirect, c, now, 0, r.Reason)
		said.Inputs = map[string]string{"destination": r.Destination, "from": from}
		next := old.clone()
		if old.Redirect != nil {
			next.note(control.Change{Override: old.Redirect.Override, Ended: "lifted"})
		}
		next.note(control.Change{Override: said})
		next.Redirect = nil
		if r.Destination != defined {
			next.Redirect = &redirection{said, r.Destination, g.about.Path}
		}
		records := map[string]*record{r.Log: next}
		if at < 0 { // all of a glob's logs go there, also those that were sent elsewhere before
			for _, m := range f.members {
				own := n.operators.get(m.log)
				if m.log == f.Log || own.Redirect == nil {
					continue
				}
				next := own.clone()
				next.note(control.Change{Override: own.Redirect.Override, Ended: "lifted"})
				next.Redirect = nil
				records[m.log] = next
			}
		}
		if err := n.operators.write(records, nil); err != nil {
			return control.Reply{}, unsaved(err)
		}
		reply.Changed = true
		reply.Message = fmt.Sprintf("%s goes to %s", r.Log, r.Destination)
		if from != "" { // else it went nowhere: its definition names no destination
			reply.Message += fmt.Sprintf(" once %s has confirmed what was sent to it", from)
		}
		return reply, nil
	})
}

// strays tells whether one of a forwarder's logs goes elsewhere than the forwarder.
func (n *Node) strays(f *forwarder) bool {
	return n.astray(f) != nil
}

// astray is one of a forwarder's logs that goes elsewhere than the forwarder; nil: none does.
func (n *Node) astray(f *forwarder) *member {
	if i := slices.IndexFunc(f.members, func(m member) bool { return m.destination != f.Destination }); i >= 0 {
		return &f.members[i]
	}
	return nil
}
