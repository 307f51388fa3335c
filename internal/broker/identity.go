package broker

import "github.com/nats-io/nats.go"

// Identity is how a process proves to a broker who it is, and the names that
// follow from it. Plain NATS and Choria differ in nothing else.
type Identity interface {
	// NATSOptions are added to a connection's options; what a file holds is read
	// here, so that a missing one is reported before anything is dialled.
	NATSOptions() ([]nats.Option, error)
	// InboxPrefix is where this connection may hear replies; empty means the
	// client library's default.
	InboxPrefix() string
	// ControlSubject is where the node of that identity hears control messages.
	// Both sides compute it; it never comes from a message. The argument is the
	// identity as a subject token.
	ControlSubject(identityToken string) string
	// NodeInbox is what the subjects begin with at which the node of that identity hears replies;
	// whoever answers it answers nowhere else. Empty: any of the client library's inboxes.
	NodeInbox(identityToken string) string
	// StreamAPI is the prefix of the streams' API; empty: the default.
	StreamAPI() string
}

// PlainNATS is the Identity of a NATS server: credentials are those of
// [Options], and control messages go to <prefix>.control.<identity>.
type PlainNATS struct {
	// Prefix of the subjects, such as "logs".
	Prefix string
	// Inbox is the inbox prefix; empty means the client library's default.
	Inbox string
}

// NATSOptions implements [Identity].
func (PlainNATS) NATSOptions() ([]nats.Option, error) { return nil, nil }

// InboxPrefix implements [Identity].
func (p PlainNATS) InboxPrefix() string { return p.Inbox }

// NodeInbox implements [Identity]: on plain NATS an inbox tells nothing of whose it is.
func (PlainNATS) NodeInbox(string) string { return "" }

// StreamAPI implements [Identity].
func (PlainNATS) StreamAPI() string { return "" }

// ControlSubject implements [Identity].
func (p PlainNATS) ControlSubject(identityToken string) string {
	return p.Prefix + ".control." + identityToken
}
