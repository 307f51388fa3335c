package chunk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxHelloLogs is the most logs in one Hello; a node with more says hello more than once.
const MaxHelloLogs = 500

// Layout is how logs are spread over partitions. ID is unique, not a counter,
// for a broker can be wiped and set up anew.
type Layout struct {
	ID         string `json:"id"`
	Prefix     string `json:"prefix"`
	Partitions int    `json:"partitions"`
}

// Pause is the big red button as it concerns one node: no publishing, until Left has passed or it is
// lifted. A zero Since says that no pause holds for the node.
type Pause struct {
	// Change numbers the states of the button. A node takes no state unasked that is older than its own.
	Change uint64    `json:"change"`
	Since  time.Time `json:"since,omitzero"`
	// Until is by the centre's clock, to be shown. What counts is Left: the node's clock may be another.
	Until time.Time `json:"until,omitzero"`
	// Left is how much of it is left when this is sent, in milliseconds; 0: it doesn't end by itself.
	Left   int64  `json:"left_ms,omitempty"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	Match  string `json:"match,omitempty"` // glob of identities that it is for; empty: all
}

// Holds tells whether it says that the node must not publish.
func (p *Pause) Holds() bool { return p != nil && !p.Since.IsZero() }

// Check tells what makes a pause one that no node may take: its hello has to say the number, and no receiver would take that. nil is none.
func (p *Pause) Check() error {
	if p != nil && p.Change > MaxPosition {
		return fmt.Errorf("change %d of the pause can't be", p.Change)
	}
	return nil
}

// maxLeft keeps what is left of a pause within what a duration can hold.
const maxLeft = int64(10*366*24*time.Hour) / 1e6

// Duration is Left, as far as it makes sense.
func (p *Pause) Duration() time.Duration {
	return time.Duration(min(max(p.Left, 0), maxLeft)) * time.Millisecond
}

// Obeyed is what a node says of the red button: which state of it has taken effect. No log publishes any
// more by the time that Paused is said.
type Obeyed struct {
	Change  uint64 `json:"change"`            // number of the state that it obeys
	Paused  bool   `json:"paused"`            // no log of the node publishes any more
	Waiting int64  `json:"waiting,omitempty"` // bytes that aren't confirmed, while paused
}

// Number is the change that is obeyed; 0: none was heard of.
func (o *Obeyed) Number() uint64 {
	if o == nil {
		return 0
	}
	return o.Change
}

// Hello is what a node says when it connects, and every 30 s or so. Without a reply subject it is a notice,
// about the red button alone: it is sent when a pause takes effect or ends, and nobody answers.
type Hello struct {
	Instance string  `json:"instance"`         // random, one for each start of the process: two that alternate are clones
	Layout   string  `json:"layout,omitempty"` // id of the layout in use
	Pause    *Obeyed `json:"pause,omitempty"`  // nil: no receiver has said anything of the red button yet
	// Key is what a control message must be authenticated with for the node to obey it. It is secret between the node and those who hear its hellos at
	// one broker, another for each start of the process. Empty: an older version, which obeys all.
	Key  string              `json:"key,omitempty"`
	Logs map[string]HelloLog `json:"logs,omitempty"` // by the log's token
}

// HelloLog is where a node stands with one log. Epoch 0: the node has no state of it.
type HelloLog struct {
	Epoch       uint64 `json:"epoch"`
	Predecessor uint64 `json:"predecessor,omitempty"`
	Partition   int    `json:"partition"` // that the log's chunks were last published to
	Stored      uint64 `json:"stored"`
	Confirmed   uint64 `json:"confirmed"`
	Digest      Digest `json:"digest"` // running digest at Confirmed
	Round       uint64 `json:"round"`
	Weak        bool   `json:"weak,omitempty"` // Confirmed is the broker's word: it is no witness of what is central
}

// Answer is what a receiver says to a Hello. Ready false means "not yet": the
// receiver doesn't know enough to say anything about any log.
type Answer struct {
	Ready    bool    `json:"ready"`
	Receiver string  `json:"receiver,omitempty"`
	Layout   *Layout `json:"layout,omitempty"`
	Pause    *Pause  `json:"pause,omitempty"`
	// Time is the receiver's, for whoever compares clocks; no position depends on it. Zero: it is of an older version.
	Time time.Time `json:"time,omitzero"`
	// Logs are of the tokens that were asked for: all, or as many as one message takes. The node asks for the others again.
	Logs map[string]AnswerLog `json:"logs,omitempty"`
}

// AnswerLog is what the centre has learnt of one log. Known false: it has never seen it.
type AnswerLog struct {
	Known bool `json:"known"`
	Place
	Resend *Resend `json:"resend,omitempty"` // what was stored is lost: go back
	Fork   bool    `json:"fork,omitempty"`   // bytes and digest don't fit: a new epoch is demanded
	Error  string  `json:"error,omitempty"`  // nothing can be said of this log now
}

// Place is a position that the centre has learnt to be committed, and what stands before it.
type Place struct {
	Epoch       uint64   `json:"epoch"`
	Predecessor uint64   `json:"predecessor,omitempty"`
	Position    uint64   `json:"position"`
	Digest      Digest   `json:"digest"` // running digest at Position
	Tail        Tail     `json:"tail"`
	Sources     []Source `json:"sources,omitempty"`
}

// Tail proves the last bytes before a Place to a node that has lost its state: the
// digest at From, extended by the source's bytes up to the Place, must give the Place's
// digest. The bytes from From on lie at consecutive offsets of one generation, which
// is the last of the Place's sources. From equals the position where nothing can be proved.
type Tail struct {
	From   uint64 `json:"from"`
	Digest Digest `json:"digest"`
}

// Source is how far a generation was read: the offset behind its last byte that has a
// position. The last one in a list is the one that was read last.
type Source struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

// Control is what a receiver tells a node unasked. A lost one costs nothing: the next sync says the same.
type Control struct {
	Confirm []Confirm `json:"confirm,omitempty"`
	Resend  []Resend  `json:"resend,omitempty"`
	Fork    []Fork    `json:"fork,omitempty"`
	Pause   *Pause    `json:"pause,omitempty"`  // the node obeys, and gives notice of what it obeys
	Layout  *Layout   `json:"layout,omitempty"` // there is a new one: say hello
	Hello   bool      `json:"hello,omitempty"`  // say hello now
}

// Confirm says that a log is fsynced and committed up to Position, and that the receiver
// has learnt so. The node compares the digest before it believes.
type Confirm struct {
	Log      string `json:"log"` // token
	Epoch    uint64 `json:"epoch"`
	Position uint64 `json:"position"`
	Digest   Digest `json:"digest"`
}

// Resend asks for everything from position From on. The node obeys only while it is in Round.
type Resend struct {
	Log   string `json:"log"` // token
	Epoch uint64 `json:"epoch"`
	From  uint64 `json:"from"`
	Round uint64 `json:"round"`
}

// Fork says that what the node sent in Epoch doesn't continue what the centre has:
// other bytes have those positions, or Known is a later epoch. The node starts a new epoch,
// greater than Known, from the last byte that it knows to be central.
type Fork struct {
	Log   string `json:"log"` // token
	Epoch uint64 `json:"epoch"`
	Known uint64 `json:"known"` // the centre's epoch
}

// MaxControl is the most bytes of a hello, an answer or a control message that are looked at.
const MaxControl = 1 << 20

// ParseHello reads a node's hello. The node is the least trusted party: sizes and
// names are checked, numbers are in range.
func ParseHello(b []byte) (*Hello, error) {
	h := new(Hello)
	if err := parse(b, h); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	if len(h.Logs) > MaxHelloLogs {
		return nil, fmt.Errorf("hello: %d logs; at most %d", len(h.Logs), MaxHelloLogs)
	}
	if len(h.Instance) > 64 || len(h.Layout) > 64 || len(h.Key) > maxKey {
		return nil, errors.New("hello: instance, layout or key is longer than 64 bytes")
	}
	if o := h.Pause; o != nil && (o.Change > MaxPosition || o.Waiting < 0) {
		return nil, fmt.Errorf("hello: change %d of the pause, %d bytes waiting can't be", o.Change, o.Waiting)
	}
	for token, l := range h.Logs {
		if _, err := ParseToken(token); err != nil {
			return nil, fmt.Errorf("hello: log: %w", err)
		}
		if l.Epoch > MaxPosition || l.Predecessor > l.Epoch || l.Stored > MaxPosition || l.Confirmed > l.Stored || l.Partition < 0 || l.Partition > 1<<16 {
			return nil, fmt.Errorf("hello: log %s: epoch %d after %d, stored %d, confirmed %d, partition %d can't be", token, l.Epoch, l.Predecessor, l.Stored, l.Confirmed, l.Partition)
		}
	}
	return h, nil
}

// ParseAnswer reads a receiver's answer.
func ParseAnswer(b []byte) (*Answer, error) {
	a := new(Answer)
	if err := parse(b, a); err != nil {
		return nil, fmt.Errorf("sync answer: %w", err)
	}
	if l := a.Layout; l != nil && (l.ID == "" || len(l.ID) > 64 || CheckPrefix(l.Prefix) != nil || l.Partitions < 1 || l.Partitions > 1<<16) {
		return nil, fmt.Errorf("sync answer: layout %.40q with prefix %.40q and %d partitions can't be", l.ID, l.Prefix, l.Partitions)
	}
	if err := a.Pause.Check(); err != nil {
		return nil, fmt.Errorf("sync answer: %w", err)
	}
	for token, l := range a.Logs {
		if _, err := ParseToken(token); err != nil {
			return nil, fmt.Errorf("sync answer: log: %w", err)
		}
		if l.Known && (l.Epoch == 0 || l.Epoch > MaxPosition || l.Position > MaxPosition || l.Tail.From > l.Position) {
			return nil, fmt.Errorf("sync answer: log %s: epoch %d, position %d, tail from %d can't be", token, l.Epoch, l.Position, l.Tail.From)
		}
	}
	return a, nil
}

// SplitAnswer reads a receiver's answer but for what it says of logs, which is the end of it, as it came: who has seen these very bytes before
// needn't have them parsed again. Not ok: that can't be told apart; then [ParseAnswer] reads all of it, or tells what is wrong.
func SplitAnswer(b []byte) (head *Answer, logs []byte, ok bool) {
	// Within a text no quote stands without a backslash before it, so this is a field's beginning.
	at := bytes.Index(b, []byte(`,"logs":{`))
	if at < 0 {
		return nil, nil, false
	}
	short := append(bytes.Clone(b[:at]), '}')
	if head, err := ParseAnswer(short); err == nil && head.Logs == nil {
		return head, b[at:], true
	}
	return nil, nil, false
}

// ParseControl reads a receiver's control message.
func ParseControl(b []byte) (*Control, error) {
	c := new(Control)
	if err := parse(b, c); err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	if err := c.Pause.Check(); err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	return c, nil
}

func parse(b []byte, v any) error {
	if len(b) > MaxControl {
		return fmt.Errorf("%d bytes; at most %d", len(b), MaxControl)
	}
	return json.Unmarshal(b, v)
}
