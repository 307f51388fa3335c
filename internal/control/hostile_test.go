package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes and gives the status and the Error that come back.
func raw(t *testing.T, socket, request string) (int, Error) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = io.WriteString(conn, request) }() // the server may answer before it has read all
	return answerOf(t, conn)
}

func answerOf(t *testing.T, conn net.Conn) (int, Error) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body)
	var e Error
	_ = json.Unmarshal(b, &e)
	return response.StatusCode, e
}

func post(t *testing.T, socket, verb, body string) (int, Error) {
	return raw(t, socket, fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", verb, len(body), body))
}

func TestHostileRequestsNeverReachTheNode(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node, Authorize: nil})
	long := strings.Repeat("a", 5000)
	for _, c := range []struct {
		name, verb, body string
		status           int
		says             string
	}{
		{"empty", "start", "", 400, "no JSON object"},
		{"no JSON", "start", "hello", 400, "no JSON object"},
		{"null", "stop", "null", 400, "no JSON object"},
		{"array", "stop", "[]", 400, "no JSON object"},
		{"cut off", "stop", `{"log":"a"`, 400, "EOF"},
		{"unknown field", "stop", `{"log":"a","url":"nats://evil"}`, 400, "url"},
		{"wrong type", "stop", `{"log":7}`, 400, "log"},
		{"two objects", "stop", `{"log":"a"}{"log":"b"}`, 400, "behind"},
		{"deep", "stop", `{"log":` + strings.Repeat("[", 20000) + `}`, 400, ""},
		{"huge", "stop", `{"log":"` + strings.Repeat("a", MaxBody) + `"}`, 413, "65536"},
		{"no log", "stop", `{}`, 400, "empty"},
		{"log with slash", "stop", `{"log":"../etc"}`, 400, "separator"},
		{"log ..", "stop", `{"log":".."}`, 400, "directory"},
		{"log with NUL", "stop", `{"log":"a\u0000b"}`, 400, "NUL"},
		{"log with escape", "stop", `{"log":"a\u001b[2Jb"}`, 400, "U+001B"},
		{"log with newline", "stop", `{"log":"a\nb"}`, 400, "U+000A"},
		{"log that turns text around", "stop", `{"log":"a\u202eb"}`, 400, "U+202E"},
		{"log too long", "stop", `{"log":"` + long + `"}`, 400, "at most"},
		{"log of a broken surrogate", "stop", `{"log":"a\ud800 "}`, 400, "space"},
		{"path relative", "start", `{"log":"a","path":"var/log/a"}`, 400, "absolute"},
		{"path with ..", "start", `{"log":"a","path":"/var/log/../../etc/shadow"}`, 400, "/etc/shadow"},
		{"path with //", "start", `{"log":"a","path":"/var//log"}`, 400, "clean"},
		{"path with slash at the end", "start", `{"log":"a","path":"/var/log/"}`, 400, "clean"},
		{"path /", "start", `{"log":"a","path":"/"}`, 400, "directory"},
		{"path with NUL", "start", `{"log":"a","path":"/var/log/a\u0000b"}`, 400, "U+0000"},
		{"path with newline", "start", `{"log":"a","path":"/var/log/a\nb"}`, 400, "U+000A"},
		{"path too long", "start", `{"log":"a","path":"/` + long + `"}`, 400, "4095"},
		{"broken glob", "start", `{"log":"a","path":"/var/log/[a"}`, 400, "glob"},
		{"destination is a URL", "start", `{"log":"a","path":"/var/log/a","destination":"nats://evil:4222"}`, 400, "by name"},
		{"destination too long", "start", `{"log":"a","path":"/var/log/a","destination":"` + long + `"}`, 400, "64"},
		{"start unknown", "start", `{"log":"a","path":"/var/log/a","start":"middle"}`, 400, "beginning"},
		{"rate negative", "start", `{"log":"a","path":"/var/log/a","rate":"-5MiB/s"}`, 400, "rate"},
		{"rate not a number", "start", `{"log":"a","path":"/var/log/a","rate":"NaN"}`, 400, "rate"},
		{"rate beyond all", "start", `{"log":"a","path":"/var/log/a","rate":"9999999TiB/s"}`, 400, "rate"},
		{"destination without path", "start", `{"log":"a","destination":"central"}`, 400, "path is missing"},
		{"for negative", "stop", `{"log":"a","for":"-1h"}`, 400, "duration"},
		{"for beyond all", "stop", `{"log":"a","for":"9999999d"}`, 400, "duration"},
		{"reason too long", "stop", `{"log":"a","reason":"` + long + `"}`, 400, "512"},
		{"reason with escape", "stop", `{"log":"a","reason":"\u001b]0;x\u0007"}`, 400, "U+001B"},
		{"pause nothing", "pause", `{}`, 400, "either"},
		{"pause one and all", "pause", `{"log":"a","all":true}`, 400, "either"},
		{"resume all for a while", "resume", `{"all":true,"for":"1h"}`, 400, "no end"},
		{"no such verb", "reboot", `{"log":"a"}`, 404, "known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, e := post(t, client.Socket, c.verb, c.body)
			if status != c.status || !strings.Contains(e.Message, c.says) || e.Code == "" {
				t.Errorf("%d %+v; want %d with %q", status, e, c.status, c.says)
			}
			if len(e.Message) > 600 {
				t.Errorf("an error of %d bytes repeats what was sent", len(e.Message))
			}
		})
	}
	for _, target := range []string{"/v1/status?log=../x", "/v1/status?log=%1b", "/v1/status?color=red", "/v1/status?log=a&log=b", "/v1/status?history=perhaps", "/v1/start", "/", "/v1/status/../../etc", "/debug/pprof/"} {
		status, e := raw(t, client.Socket, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if status != 400 && status != 404 {
			t.Errorf("GET %s: %d %+v", target, status, e)
		}
	}
	if node.count() != 0 {
		_, last := node.last()
		t.Errorf("%d hostile requests reached the node, at last %+v", node.count(), last)
	}
	if _, err := client.Check(t.Context()); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestHostileHeaders(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node})
	for name, header := range map[string]string{
		"huge":             "X-Big: " + strings.Repeat("a", 1<<20),
		"caller twice":     HeaderCaller + ": a\r\n" + HeaderCaller + ": b",
		"caller too long":  HeaderCaller + ": " + strings.Repeat("a", 300),
		"caller not UTF-8": HeaderCaller + ": a\xffb",
		"caller empty":     HeaderCaller + ": ",
	} {
		status, _ := raw(t, client.Socket, "POST /v1/stop HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 11\r\n"+header+"\r\n\r\n{\"log\":\"a\"}")
		if status < 400 || status >= 500 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if node.count() != 0 {
		t.Errorf("%d reached the node", node.count())
	}
}

func TestSlowBodyIsCutOff(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node, Timeout: 400 * time.Millisecond})
	conn, err := net.Dial("unix", client.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, "POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"log\":"); err != nil {
		t.Fatal(err)
	}
	if status, e := answerOf(t, conn); status != http.StatusGatewayTimeout || e.Code != CodeTimeout {
		t.Errorf("%d %+v", status, e)
	}
	// One that sends nothing at all is closed without an answer.
	silent, err := net.Dial("unix", client.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_ = silent.SetDeadline(time.Now().Add(time.Minute))
	if b, err := io.ReadAll(silent); err != nil || len(b) != 0 {
		t.Errorf("silent connection: %q, %v", b, err)
	}
}

func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	node := new(recorder)
	client := open(t, Config{Node: node})
	var held []net.Conn
	release := func() {
		for _, c := range held {
			c.Close()
		}
	}
	defer release()
	for range MaxConnections {
		c, err := net.Dial("unix", client.Socket)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := client.Check(t.Context())
		if errors.Is(err, ErrBusy) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with %d connections held: %v", MaxConnections, err)
		}
	}
	// Always as that, and never as a daemon that doesn't run: the agent would record what it should ask for again.
	for range 500 {
		if _, err := client.Pause(t.Context(), PauseRequest{All: true}); !errors.Is(err, ErrBusy) {
			t.Fatalf("turned away with: %v", err)
		}
	}
	release()
	for {
		_, err := client.Check(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after they were closed: %v", err)
		}
	}
}

// Whatever a request holds, it is answered with an Error or has passed every check.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"log":"a","path":"/var/log/a","rate":"5MiB/s","for":"1h30m","start":"end"}`, `{"log":"a"}`, `{"all":true}`, `{"log":"\u0000"}`, `[]`, `{"log":"a"} x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, into := range []changing{new(StartRequest), new(StopRequest), new(PauseRequest), new(ResumeRequest), new(RedirectRequest)} {
			if decode(body, into) != nil || into.Check() != nil {
				continue
			}
			b, err := json.Marshal(into)
			if err != nil {
				t.Fatalf("%+v passed and can't be written: %v", into, err)
			}
			if bytes.ContainsAny(b, "\x00\x1b\n\r\u202e") || bytes.Contains(b, []byte(`/../`)) {
				t.Fatalf("passed: %s", b)
			}
		}
	})
}
