package control

import (
	"errors"
	"fmt"
	"net/http"
)

// Code says what kind of error an [Error] is. It goes over the wire.
type Code string

const (
	CodeInvalid     Code = "invalid"     // the request can't be right, whoever asks
	CodeRefused     Code = "refused"     // policy, permission, or a path that may not be forwarded
	CodeUnknownLog  Code = "unknown_log" // no such log on this node
	CodeConflict    Code = "conflict"    // it contradicts what is there
	CodeTooLarge    Code = "too_large"
	CodeTimeout     Code = "timeout"
	CodeBusy        Code = "busy" // too many connections
	CodeNotRunning  Code = "not_running"
	CodeInternal    Code = "internal"
	codeNoSuchRoute Code = "no_such_route"
)

// Sentinels for errors.Is; every [Error] unwraps to the one of its code.
var (
	ErrInvalid    = errors.New("invalid request")
	ErrRefused    = errors.New("refused")
	ErrUnknownLog = errors.New("unknown log")
	ErrConflict   = errors.New("conflict")
	ErrTooLarge   = errors.New("request too large")
	ErrTimeout    = errors.New("timeout")
	ErrBusy       = errors.New("daemon is busy")
	ErrNotRunning = errors.New("daemon is not running")
	ErrInternal   = errors.New("internal error")
)

// Error is what a request was answered with instead of a reply.
type Error struct {
	Message string `json:"error"`          // what went wrong, and where; complete without the hint
	Code    Code   `json:"code"`           // invalid, refused, unknown_log, conflict, too_large, timeout, busy, not_running or internal from a node's daemon; failed from the command itself
	Hint    string `json:"hint,omitempty"` // what to do about it
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// Unwrap is the sentinel of the code.
func (e *Error) Unwrap() error {
	_, sentinel := e.Code.meaning()
	return sentinel
}

func (c Code) meaning() (status int, sentinel error) {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest, ErrInvalid
	case CodeRefused:
		return http.StatusForbidden, ErrRefused
	case CodeUnknownLog:
		return http.StatusNotFound, ErrUnknownLog
	case CodeConflict:
		return http.StatusConflict, ErrConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge, ErrTooLarge
	case CodeTimeout:
		return http.StatusGatewayTimeout, ErrTimeout
	case CodeBusy:
		return http.StatusServiceUnavailable, ErrBusy
	case CodeNotRunning:
		return http.StatusServiceUnavailable, ErrNotRunning
	case codeNoSuchRoute:
		return http.StatusNotFound, ErrInvalid
	}
	return http.StatusInternalServerError, ErrInternal
}

// Errorf makes an [Error] without a hint.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns the error with what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}
