package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"logforward/internal/control"
)

// Status codes of a reply, as MCollective RPC numbers them.
const (
	codeOK      = 0
	codeAborted = 1
	codeUnknown = 2
	codeMissing = 3
	codeInvalid = 4
	codeOther   = 5
)

// reply is what Choria Server takes, as
// https://choria.io/schemas/mcorpc/external/v1/rpc_reply.json says.
type reply struct {
	Code    int            `json:"statuscode"`
	Message string         `json:"statusmsg"`
	Data    map[string]any `json:"data"`
}

// maxMessage keeps a message readable in a list of nodes, in bytes.
const maxMessage = 1024

func done(data map[string]any) *reply { return &reply{codeOK, "OK", data} }

func failed(code int, format string, args ...any) *reply {
	// The text may quote what a stranger sent: nothing of it may play with a terminal.
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return &reply{code, text, map[string]any{}}
}

// daemonSaid is the reply to a request that the daemon, or the way to it, didn't take.
func daemonSaid(err error) *reply {
	switch {
	case errors.Is(err, control.ErrInvalid), errors.Is(err, control.ErrTooLarge):
		return failed(codeInvalid, "%v", err)
	case errors.Is(err, control.ErrRefused), errors.Is(err, control.ErrUnknownLog), errors.Is(err, control.ErrConflict):
		return failed(codeAborted, "%v", err)
	}
	return failed(codeOther, "%v", err)
}

// write puts the reply where Choria Server reads it; it made the file.
func write(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the reply: %w", err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return fmt.Errorf("write the reply: %w", err)
	}
	return nil
}
