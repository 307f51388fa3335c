package chunk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseHelloRefusesWhatCantBe(t *testing.T) {
	many := Hello{Logs: map[string]HelloLog{}}
	for i := range MaxHelloLogs + 1 {
		many.Logs[fmt.Sprintf("log%d", i)] = HelloLog{}
	}
	tooMany, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "no JSON": "x", "no object": "[]", "too many logs": string(tooMany), "too long": `{"instance":"` + strings.Repeat("x", MaxControl) + `"}`,
		"instance": `{"instance":"` + strings.Repeat("x", 65) + `"}`, "key": `{"key":"` + strings.Repeat("x", maxKey+1) + `"}`, "layout": `{"layout":"` + strings.Repeat("x", 65) + `"}`,
		"path": `{"logs":{"..=2F":{}}}`, "dots": `{"logs":{"=2E=2E":{}}}`, "empty log": `{"logs":{"":{}}}`,
		"epoch": `{"logs":{"a":{"epoch":9223372036854775808}}}`, "predecessor": `{"logs":{"a":{"epoch":1,"predecessor":2}}}`, "negative": `{"logs":{"a":{"stored":-1}}}`,
		"confirmed": `{"logs":{"a":{"stored":1,"confirmed":2}}}`, "stored": `{"logs":{"a":{"stored":9223372036854775808}}}`,
		"waiting": `{"pause":{"waiting":-1}}`, "change": `{"pause":{"change":9223372036854775808}}`, "partition": `{"logs":{"a":{"partition":-1}}}`, "large partition": `{"logs":{"a":{"partition":65537}}}`, "digest": `{"logs":{"a":{"digest":"x"}}}`,
	} {
		if h, err := ParseHello([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestParseAnswerRefusesWhatCantBe(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "x", "layout without id": `{"layout":{"prefix":"logs","partitions":1}}`, "no prefix": `{"layout":{"id":"x","partitions":1}}`,
		"no partitions": `{"layout":{"id":"x","prefix":"logs"}}`, "many partitions": `{"layout":{"id":"x","prefix":"logs","partitions":65537}}`,
		"path": `{"logs":{"..=2F":{}}}`, "epoch 0": `{"logs":{"a":{"known":true}}}`, "epoch": `{"logs":{"a":{"known":true,"epoch":9223372036854775808}}}`,
		"position": `{"logs":{"a":{"known":true,"epoch":1,"position":9223372036854775808}}}`, "tail": `{"logs":{"a":{"known":true,"epoch":1,"tail":{"from":1}}}}`,
	} {
		if a, err := ParseAnswer([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestPauseHoldsAndLasts(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, test := range map[string]struct {
		p     *Pause
		holds bool
		lasts time.Duration
	}{
		"none": {nil, false, 0}, "lifted": {&Pause{Change: 5}, false, 0}, "for good": {&Pause{Since: now}, true, 0},
		"for two seconds": {&Pause{Since: now, Left: 2000}, true, 2 * time.Second}, "less than nothing": {&Pause{Since: now, Left: -1}, true, 0},
		"more than there are": {&Pause{Since: now, Left: math.MaxInt64}, true, 10 * 366 * 24 * time.Hour},
	} {
		if got := test.p.Holds(); got != test.holds {
			t.Errorf("%s: holds %t", name, got)
		}
		if test.p != nil && test.p.Duration() != test.lasts {
			t.Errorf("%s: lasts %s", name, test.p.Duration())
		}
	}
}

// stable says that what was read writes and reads as the same.
func stable[T any](t *testing.T, v *T, err error, parse func([]byte) (*T, error)) {
	if err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxControl {
		return
	}
	again, err := parse(b)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if c, err := json.Marshal(again); err != nil || !bytes.Equal(b, c) {
		t.Fatalf("%s, then %s, %v", b, c, err)
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add([]byte(`{"instance":"x","layout":"y","logs":{"syslog":{"epoch":2,"predecessor":1,"partition":3,"stored":9,"confirmed":5,"digest":"00000000000000ab","round":1}}}`))
	f.Add([]byte(`{"logs":{"=2E":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err == nil {
			for token, l := range h.Logs {
				if name, err := ParseToken(token); err != nil || CheckName(name) != nil || l.Confirmed > l.Stored || l.Stored > MaxPosition {
					t.Fatalf("%q: %+v", token, l)
				}
			}
		}
		stable(t, h, err, ParseHello)
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"ready":true,"receiver":"r","layout":{"id":"x","prefix":"logs","partitions":4},"pause":{"since":"2026-01-01T00:00:00Z"},"logs":{"a":{"known":true,"epoch":1,"position":2,"digest":"00000000000000ab","tail":{"from":0,"digest":"0000000000000000"},"sources":[{"file":"f","offset":2}],"resend":{"epoch":1,"from":0,"round":2}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAnswer(b)
		stable(t, a, err, ParseAnswer)
	})
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"confirm":[{"log":"a","epoch":1,"position":2,"digest":"00000000000000ab"}],"resend":[{"log":"a","epoch":1,"from":0,"round":0}],"fork":[{"log":"a","epoch":1,"known":2}],"hello":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseControl(b)
		stable(t, c, err, ParseControl)
	})
}

func TestControlRoundTrip(t *testing.T) {
	c := &Control{Confirm: []Confirm{{"a", 1, 2, 3}}, Resend: []Resend{{"a", 1, 2, 3}}, Fork: []Fork{{"a", 1, 2}}, Pause: &Pause{}, Layout: &Layout{"x", "logs", 3}, Hello: true}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseControl(b)
	if err != nil || !reflect.DeepEqual(c, got) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What a node keeps of the centre's word must be something that it can say and use.
func TestNodeRefusesWhatItCouldNotUse(t *testing.T) {
	for _, text := range []string{
		`{"pause":{"change":9223372036854775808,"since":"2026-01-01T00:00:00Z"}}`,
		`{"pause":{"change":18446744073709551615}}`,
		`{"ready":true,"layout":{"id":"x","prefix":"logs.>","partitions":1}}`,
		`{"ready":true,"layout":{"id":"x","prefix":"logs.","partitions":1}}`,
		`{"ready":true,"layout":{"id":"x","prefix":"logs\r\nPUB a","partitions":1}}`,
		`{"ready":true,"layout":{"id":"x","prefix":"","partitions":1}}`,
	} {
		if a, err := ParseAnswer([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, a)
		}
	}
	if c, err := ParseControl([]byte(`{"pause":{"change":9223372036854775808}}`)); err == nil {
		t.Errorf("%+v", c)
	}
	if _, err := ParseAnswer([]byte(`{"ready":true,"pause":{"change":9223372036854775807},"layout":{"id":"x","prefix":"a.b-c_D","partitions":1}}`)); err != nil {
		t.Error(err)
	}
}

// What an answer says of logs is told apart from the rest whatever texts the rest has.
func TestSplitAnswer(t *testing.T) {
	whole := Answer{Ready: true, Receiver: `r,"logs":{"x":1}`, Layout: &Layout{ID: "l", Prefix: "logs", Partitions: 4}, Time: time.Unix(1, 0).UTC(),
		Pause: &Pause{Change: 3, Reason: `,"logs":{` + "\\" + `,"logs":{`},
		Logs:  map[string]AnswerLog{"a": {Known: true, Place: Place{Epoch: 1, Position: 2}}, "b": {Error: `,"logs":{`}}}
	b, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	head, logs, ok := SplitAnswer(b)
	if !ok || !bytes.HasPrefix(logs, []byte(`,"logs":{"a":{"known":true`)) || !bytes.HasSuffix(b, logs) {
		t.Fatalf("%t: %s", ok, logs)
	}
	want := whole
	want.Logs = nil
	if !reflect.DeepEqual(*head, want) {
		t.Errorf("got %+v, want %+v", *head, want)
	}
	for _, text := range []string{
		``, `{}`, `{"ready":true}`, `{"ready":true,"logs":null}`, `{"logs":{},"ready":true}`, `{"ready":true, "logs":{}}`, `{"ready":1,"logs":{}}`, `{"ready":true,"LOGS":{"a":{}},"logs":{}}`,
		`{"ready":true,"layout":{"id":"x","logs":{}}}`, `{"ready":true,"pause":{"change":9223372036854775808},"logs":{}}`,
	} {
		if head, logs, ok := SplitAnswer([]byte(text)); ok {
			t.Errorf("%s: %+v and %s", text, head, logs)
		}
	}
}
