package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"logforward/internal/broker"
	"logforward/internal/control"
)

// Exit codes; exitCodes tells them in the help.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
	exitUnconfirmed = 5
	exitConfig      = 78 // as EX_CONFIG in sysexits.h
	exitInterrupted = 130
)

const exitCodes = `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused or not permitted, 4 not
running or not reachable, 5 done, but not every node that is up has confirmed,
78 wrong configuration, 130 interrupted. "logforward check" exits as a
monitoring plugin does: 0 ok, 1 warning, 2 critical, 3 unknown.`

// exitError is an error with its exit code. A nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitConfig, err}
}

// exitCode says what kind of failure an error is.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, control.ErrInvalid), errors.Is(err, control.ErrUnknownLog):
		return exitUsage
	case errors.Is(err, control.ErrRefused), errors.Is(err, broker.ErrAuthentication), errors.Is(err, broker.ErrPermission):
		return exitRefused
	case errors.Is(err, control.ErrNotRunning), errors.Is(err, control.ErrTimeout), errors.Is(err, control.ErrBusy), errors.Is(err, broker.ErrUnreachable):
		return exitUnreachable
	}
	return exitFailure
}

// report writes an error for a person, or as JSON where that was asked for.
func (p *program) report(err error) int {
	code := exitCode(err)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) && code == exitFailure {
		if p.endless {
			return exitOK // a signal asked for the end, and it came in order
		}
		text := "interrupted, and not done"
		if at := strings.TrimSuffix(strings.TrimSuffix(err.Error(), context.Canceled.Error()), ": "); at != "" {
			text += ": " + at
		}
		err, code = errors.New(text), exitInterrupted
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(p.err, "logforward: %s\n", harmlessLines(text)) // it may quote what a file or another machine says
		if p.json && !p.printed {
			doc := &control.Error{Message: text, Code: "failed"}
			var e *control.Error
			if errors.As(err, &e) {
				doc = e
			}
			_ = p.print(doc) // what it is about is said already
		}
	}
	return code
}
