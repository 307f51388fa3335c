package broker

import (
	"errors"
	"fmt"
)

// What callers branch on. They are always wrapped; test with errors.Is.
var (
	// ErrUnreachable says that no broker answered at any of the URLs.
	ErrUnreachable = errors.New("broker unreachable")
	// ErrAuthentication says that the broker refused the credentials.
	ErrAuthentication = errors.New("credentials refused")
	// ErrCertificate says that one side's certificate was not accepted.
	ErrCertificate = errors.New("certificate not accepted")
	// ErrPermission says that the credentials are good and don't allow this.
	ErrPermission = errors.New("not permitted")
	// ErrNoStream says that no stream takes the subject, or that a stream or
	// bucket of that name doesn't exist.
	ErrNoStream = errors.New("no such stream")
	// ErrNoJetStream says that the broker has no JetStream, or none for this account.
	ErrNoJetStream = errors.New("JetStream is not available")
	// ErrStreamFull says that the stream or its broker has no room; nothing was stored.
	ErrStreamFull = errors.New("stream is full")
	// ErrTooManyRequests says that the broker's intake queue is full; nothing was stored.
	ErrTooManyRequests = errors.New("broker takes no more at the moment")
	// ErrPayloadTooBig says that headers and payload exceed what the broker takes.
	ErrPayloadTooBig = errors.New("message is bigger than the broker takes")
	// ErrTimeout says that no answer came in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrDisconnected says that the connection is down, or fell before the answer.
	ErrDisconnected = errors.New("disconnected from the broker")
	// ErrClosed says that the publisher was closed.
	ErrClosed = errors.New("publisher closed")
	// ErrTooMany says that a server lists no more subjects than it did (100,000 by nats-server's JSMaxSubjectDetails).
	ErrTooMany = errors.New("too many subjects for one answer")
	// ErrWrongRevision says that someone else wrote since the expected revision.
	ErrWrongRevision = errors.New("wrong revision")
	// ErrNotFound says that a key has no value.
	ErrNotFound = errors.New("not found")
	// ErrForeign says that a stream of one of our names isn't ours.
	ErrForeign = errors.New("stream is configured as something else")
)

// PublishError is why a publish failed.
type PublishError struct {
	// Subject is where it was published to; Bytes is the payload's size.
	Subject string
	Bytes   int
	// Sent says that the message may have left this machine. Without an answer
	// it may be stored or not.
	Sent bool
	// Err wraps one of the sentinels, or is an [*AnswerError].
	Err error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publish %d bytes to %s: %v", e.Bytes, e.Subject, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }

// AnswerError is a refusal in JetStream's own words.
type AnswerError struct {
	Code        int    // like an HTTP status
	ErrCode     int    // JetStream's number, such as 10077
	Description string // JetStream's text
	kind        error
}

func (e *AnswerError) Error() string {
	if e.kind != nil {
		return fmt.Sprintf("%v: %s (%d)", e.kind, e.Description, e.ErrCode)
	}
	return fmt.Sprintf("JetStream refuses: %s (%d)", e.Description, e.ErrCode)
}

func (e *AnswerError) Unwrap() error { return e.kind }

// Retryable tells whether the same message may be taken when it is published
// again later. It is false for what only an operator or another message can
// mend: a payload that is too big, a missing permission, a wrong revision, a
// request that JetStream calls malformed.
func Retryable(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrPayloadTooBig), errors.Is(err, ErrPermission), errors.Is(err, ErrWrongRevision),
		errors.Is(err, ErrClosed), errors.Is(err, ErrForeign), errors.Is(err, errBadMessage):
		return false
	}
	var answer *AnswerError
	if errors.As(err, &answer) && answer.kind == nil {
		// 4xx blames the message; 5xx the broker's momentary state.
		return answer.Code >= 500
	}
	return true
}

// OutcomeUnknown tells whether the message may have been stored although an
// error is reported. Whoever must not store it twice has to find out first.
func OutcomeUnknown(err error) bool {
	var p *PublishError
	if !errors.As(err, &p) || !p.Sent {
		return false
	}
	return errors.Is(err, ErrTimeout) || errors.Is(err, ErrDisconnected) || errors.Is(err, ErrClosed) ||
		errors.Is(err, errBadAnswer)
}

// errBadMessage is a subject or header that can't be put on the wire;
// errBadAnswer an answer that isn't one of JetStream's.
var (
	errBadMessage = errors.New("malformed message")
	errBadAnswer  = errors.New("unintelligible answer")
)
