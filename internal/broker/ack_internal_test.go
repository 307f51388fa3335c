package broker

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestDecodeAck(t *testing.T) {
	for _, c := range []struct {
		data string
		want Ack
		kind error
	}{
		{data: `{"stream":"LOGFORWARD_0", "seq":1795000000000000}`, want: Ack{Stream: "LOGFORWARD_0", Sequence: 1795000000000000}},
		{data: `{"stream":"S","seq":7}`, want: Ack{Stream: "S", Sequence: 7}},
		{data: `{"stream":"S","domain":"hub", "seq":7}`, want: Ack{Stream: "S", Sequence: 7}},
		{data: `{"stream":"S", "seq":7,"duplicate": true}`, want: Ack{Stream: "S", Sequence: 7, Duplicate: true}},
		{data: `{"stream":"S\u0041", "seq":7}`, want: Ack{Stream: "SA", Sequence: 7}},
		{data: `{"stream":"S", "seq":18446744073709551616}`, kind: errBadAnswer},
		{data: `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}`, kind: ErrStreamFull},
		{data: `{"error":{"code":503,"err_code":10023,"description":"insufficient resources"},"stream":"S","seq":0}`, kind: ErrStreamFull},
		{data: `{"error":{"code":503,"err_code":10047,"description":"insufficient storage resources available"},"stream":"S","seq":0}`, kind: ErrStreamFull},
		{data: `{"error":{"code":429,"err_code":10167,"description":"too many requests"},"stream":"S","seq":0}`, kind: ErrTooManyRequests},
		{data: `{"error":{"code":429,"err_code":99999,"description":"too many"},"stream":"S","seq":0}`, kind: ErrTooManyRequests},
		{data: `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}`, kind: ErrWrongRevision},
		{data: `{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"S","seq":0}`, kind: ErrWrongRevision},
		{data: `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"S","seq":0}`, kind: ErrPayloadTooBig},
		{data: `{"error":{"code":503,"err_code":10076,"description":"jetstream not enabled"}}`, kind: ErrNoJetStream},
		{data: `null`, kind: errBadAnswer},
		{data: `[]`, kind: errBadAnswer},
	} {
		t.Run(c.data, func(t *testing.T) {
			got := decodeAck(&nats.Msg{Data: []byte(c.data)})
			if c.kind != nil {
				if !errors.Is(got.Err, c.kind) {
					t.Errorf("error is %v, want %v", got.Err, c.kind)
				}
				return
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// What JetStream doesn't take for a momentary reason is retried; what it calls
// malformed is not.
func TestRetryableAnswers(t *testing.T) {
	for _, c := range []struct {
		code, number int
		text         string
		want         bool
	}{
		{503, 10077, "write /store: no space left on device", true},
		{503, 10163, "expected last sequence per subject temporarily unavailable", true},
		{400, 10109, "invalid operation on sealed stream", false},
		{429, 10167, "too many requests", true},
		{400, 10071, "wrong last sequence: 9", false},
	} {
		err := error(&PublishError{Sent: true, Err: newAnswerError(c.code, c.number, c.text)})
		if Retryable(err) != c.want || OutcomeUnknown(err) {
			t.Errorf("%s: retryable %v, unknown %v", c.text, Retryable(err), OutcomeUnknown(err))
		}
	}
	if Retryable(nil) || OutcomeUnknown(nil) {
		t.Error("no error is worth no retry and isn't unknown")
	}
}

// The quick reader may decline, but must never read otherwise than the JSON decoder.
func FuzzDecodeAck(f *testing.F) {
	for _, s := range []string{`{"stream":"LOGFORWARD_0", "seq":1795000000000000}`, `{"stream":"S","seq":7}`,
		`{"stream":"S","domain":"hub", "seq":7}`, `{"stream":"S", "seq":7,"duplicate": true}`, `{"stream":"S","seq":007}`,
		`{"stream":"a\u0041","seq":1}`, `{"stream":"S","seq":1}}`, `{"stream":"S",,"seq":1}`, `{"stream":"S""seq":1}`, `{"error":{"code":1}}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		quick, ok := quickAck(data)
		var a answer
		err := json.Unmarshal(data, &a)
		if ok && (err != nil || a.Error != nil || quick != (Ack{Stream: a.Stream, Sequence: a.Sequence, Duplicate: a.Duplicate})) {
			t.Errorf("%q: quickly %+v, as JSON %+v %v", data, quick, a, err)
		}
		ack := decodeAck(&nats.Msg{Data: data})
		if ack.Err == nil && (ack.Sequence == 0 || ack.Stream == "") {
			t.Errorf("%q: acknowledged without saying where: %+v", data, ack)
		}
	})
}
