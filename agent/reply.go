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

// maxList bounds each of a reply's lists, in bytes, of which it has two at most. A broker takes 1 MiB by default, and
// Choria's envelopes, three of them, each in the next as base64, make 2.4 of one. A larger reply would never arrive.
const maxList = 192 << 10

// done is the reply to what was done. Its texts may hold what a file is called or what a broker said.
func done(data map[string]any) *reply {
	for name, v := range data {
		switch v := v.(type) {
		case string:
			data[name] = harmless(v)
		case []string:
			for i := range v {
				v[i] = harmless(v[i])
			}
			data[name] = shorten(v)
		case map[string]any:
			for key, text := range v {
				if text, ok := text.(string); ok {
					v[key] = harmless(text)
				}
			}
		}
	}
	return &reply{codeOK, "OK", data}
}

func failed(code int, format string, args ...any) *reply {
	return &reply{code, harmless(fmt.Sprintf(format, args...)), map[string]any{}}
}

// printable is a text of which nothing can play with a terminal, whatever a stranger wrote into it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// harmless is printable, and no longer than a person reads.
func harmless(text string) string {
	text = printable(text)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// shorten keeps as many texts as a reply can hold, and says how many it leaves out.
func shorten(texts []string) []string {
	size := 0
	for i, t := range texts {
		if size += encoded(t); size > maxList {
			return append(texts[:i:i], fmt.Sprintf("and %d more", len(texts)-i))
		}
	}
	return texts
}

// fit takes from all, in the order of names, as much as a reply can hold. left is how many are left out.
func fit(all map[string]any, names []string) (kept map[string]any, left int) {
	kept = make(map[string]any, len(names))
	size := 0
	for i, name := range names {
		if size += encoded(name) + encoded(all[name]); size > maxList {
			return kept, len(names) - i
		}
		kept[name] = all[name]
	}
	return kept, 0
}

// encoded is how many bytes a value has in a reply; what can't be written is found when the reply is.
func encoded(v any) int {
	b, _ := json.Marshal(v)
	return len(b) + 2
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
