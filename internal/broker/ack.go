package broker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Ack is the one outcome of a publish.
type Ack struct {
	// Stream and Sequence say where the message was stored.
	Stream   string
	Sequence uint64
	// Duplicate says that the stream dropped it as one that it had already.
	Duplicate bool
	// Err is nil when the message was stored, else a [*PublishError].
	Err error
}

// JetStream's numbers that this package tells apart (the server's errors.json).
const (
	codeAccountResources  = 10002
	codeInsufficient      = 10023
	codeNoAccount         = 10035
	codeNotEnabledAccount = 10039
	codeStorageResources  = 10047
	codeMessageTooBig     = 10054
	codeOtherStream       = 10060
	codeWrongLast         = 10071
	codeNotEnabled        = 10076
	codeStoreFailed       = 10077
	codeHeaderTooBig      = 10097
	codeWrongLastConstant = 10164
	codeTooManyRequests   = 10167
)

// What codeStoreFailed carries as its description (the server's store.go).
const (
	textMaximumMessages   = "maximum messages exceeded"
	textMaximumBytes      = "maximum bytes exceeded"
	textMaximumPerSubject = "maximum messages per subject exceeded"
	textMessageTooLarge   = "message too large"
)

// statusNoResponders is the status header of the server's answer to a request
// that nobody listens for.
const statusNoResponders = "503"

// answer is JetStream's reply to a publish, as JSON. Other members are ignored.
type answer struct {
	Stream    string       `json:"stream"`
	Sequence  uint64       `json:"seq"`
	Duplicate bool         `json:"duplicate"`
	Error     *answerError `json:"error"`
}

type answerError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// decodeAck reads an answer. The Err is without subject and size.
func decodeAck(m *nats.Msg) Ack {
	if len(m.Data) == 0 {
		if m.Header.Get("Status") == statusNoResponders {
			return Ack{Err: fmt.Errorf("%w for this subject: run logforward setup", ErrNoStream)}
		}
		return Ack{Err: fmt.Errorf("%w: empty", errBadAnswer)}
	}
	if ack, ok := quickAck(m.Data); ok {
		return ack
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Ack{Err: fmt.Errorf("%w: %w", errBadAnswer, err)}
	}
	if a.Error != nil {
		return Ack{Stream: a.Stream, Err: newAnswerError(a.Error.Code, a.Error.ErrCode, a.Error.Description)}
	}
	if a.Stream == "" || a.Sequence == 0 {
		return Ack{Err: fmt.Errorf("%w: %.100q", errBadAnswer, m.Data)}
	}
	return Ack{Stream: a.Stream, Sequence: a.Sequence, Duplicate: a.Duplicate}
}

// quickAck reads what nearly every answer is, `{"stream":"NAME","seq":123}`,
// without reflection. It says false for all else.
func quickAck(b []byte) (Ack, bool) {
	rest, ok := bytes.CutPrefix(b, []byte(`{"stream":"`))
	if !ok {
		return Ack{}, false
	}
	end := bytes.IndexByte(rest, '"')
	if end <= 0 {
		return Ack{}, false
	}
	name := rest[:end]
	for _, c := range name {
		if c < ' ' || c == '\\' || c >= 0x7f {
			return Ack{}, false
		}
	}
	rest, ok = bytes.CutPrefix(rest[end+1:], []byte(`,`))
	if !ok {
		return Ack{}, false
	}
	rest = bytes.TrimPrefix(rest, []byte(` `)) // as older servers write it
	rest, ok = bytes.CutPrefix(rest, []byte(`"seq":`))
	if !ok {
		return Ack{}, false
	}
	digits, ok := bytes.CutSuffix(rest, []byte(`}`))
	if !ok || len(digits) == 0 || digits[0] == '0' {
		return Ack{}, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return Ack{}, false
		}
	}
	seq, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return Ack{}, false
	}
	return Ack{Stream: string(name), Sequence: seq}, true
}

func newAnswerError(code, errCode int, description string) *AnswerError {
	e := &AnswerError{Code: code, ErrCode: errCode, Description: description}
	switch errCode {
	case codeStoreFailed:
		switch description {
		case textMaximumMessages, textMaximumBytes, textMaximumPerSubject:
			e.kind = ErrStreamFull
		case textMessageTooLarge:
			e.kind = ErrPayloadTooBig
		}
	case codeAccountResources, codeInsufficient, codeStorageResources:
		e.kind = ErrStreamFull
	case codeMessageTooBig, codeHeaderTooBig:
		e.kind = ErrPayloadTooBig
	case codeWrongLast, codeWrongLastConstant:
		e.kind = ErrWrongRevision
	case codeTooManyRequests:
		e.kind = ErrTooManyRequests
	case codeOtherStream:
		e.kind = ErrNoStream
	case codeNoAccount, codeNotEnabled, codeNotEnabledAccount:
		e.kind = ErrNoJetStream
	default:
		if code == 429 {
			e.kind = ErrTooManyRequests
		}
	}
	return e
}
