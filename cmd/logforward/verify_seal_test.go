package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/receive"
)

// sealedOutput is a receiver's directory with a log of 60 bytes in a closed file, sealed in blocks of 20, and their last seal.
func sealedOutput(t *testing.T) (output string, key ed25519.PrivateKey, last chunk.Hash) {
	t.Helper()
	output = t.TempDir()
	data := []byte(strings.Repeat("ten bytes\n", 6))
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	zero, digest := chunk.Digest(0), chunk.Sum(data)
	entries := []receive.Entry{{Event: receive.EventRange, Epoch: 7, File: "web1/syslog.log", Digest: &zero}}
	of := chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 7}
	for at := 0; at < len(data); at += 20 {
		s := chunk.Seal{From: uint64(at), To: uint64(at + 20), Prev: last, Sum: sha256.Sum256(data[at : at+20])}
		s.Sign(of, key, time.Unix(1e9, 0))
		last = s.ID(of)
		entries = append(entries, receive.Entry{Event: receive.EventSeal, Epoch: 7, From: s.From, To: s.To, Seal: s.String()})
	}
	entries = append(entries, receive.Entry{Event: receive.EventClose, Epoch: 7, To: 60, File: "web1/syslog.log", Name: "web1/syslog@1.log", Size: 60, Digest: &digest})
	var lines strings.Builder
	for _, e := range entries {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s\n", b)
	}
	write(t, filepath.Join(output, "web1", "syslog@ledger.jsonl"), lines.String())
	write(t, filepath.Join(output, "web1", "syslog@1.log"), string(data))
	return output, key, last
}

func TestVerifySeals(t *testing.T) {
	t.Parallel()
	output, key, last := sealedOutput(t)
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	keys, others, broken := filepath.Join(output, "keys"), filepath.Join(output, "others"), filepath.Join(output, "broken")
	write(t, keys, "# ours\nweb1 "+public+"\n")
	write(t, others, "web1 "+strings.Repeat("07", 32)+"\n")
	write(t, broken, "# ours\nweb1 "+public[1:]+"\n")
	expect := fmt.Sprintf("7:60:%s", last)
	for _, c := range []struct {
		args []string
		code int
		out  []string // parts of it
		err  string
	}{
		{nil, 0, []string{"web1/syslog  intact   60 B", "SEALED", "whole", "3", "60 B", public[:8] + " (not vouched for)"}, ""},
		{[]string{"--seal-keys", keys, "--sealed"}, 0, []string{"whole", public[:8]}, ""},
		{[]string{"web1/syslog", "--seal-keys", keys, "--sealed", "--seal-expect", expect}, 0, []string{"intact"}, ""},
		{[]string{"web1/syslog", "--seal-expect", "7:61:" + last.String()}, exitFailure, []string{"damaged", "the end was taken away"}, "1 of 1 logs are damaged"},
		{[]string{"web1/syslog", "--seal-expect", "7:40:" + last.String()}, exitFailure, []string{"forged"}, "1 of 1 logs are forged"},
		{[]string{"--seal-keys", others}, exitFailure, []string{"forged", "isn't among those given for web1"}, "1 of 1 logs are forged"},
		{[]string{"--seal-keys", broken}, exitFailure, nil, "line 2: the key of \"web1\" is not 64 hex digits"},
		{[]string{"--seal-keys", filepath.Join(output, "none")}, exitFailure, nil, "no such file"},
		{[]string{"--sealed"}, exitUsage, nil, "--seal-keys"},
		{[]string{"--seal-expect", expect}, exitUsage, nil, "name it"},
		{[]string{"web1/*", "--seal-expect", expect}, exitUsage, nil, "name it"},
		{[]string{"web1/syslog", "--seal-expect", "7:60"}, exitUsage, nil, "want EPOCH:POSITION:ID"},
		{[]string{"web1/syslog", "--seal-expect", "7:60:" + strings.ToUpper(last.String())}, exitUsage, nil, "want EPOCH:POSITION:ID"},
	} {
		code, out, errText := once(t, append([]string{"verify", "--output", output}, c.args...)...)
		if code != c.code || !strings.Contains(errText, c.err) {
			t.Errorf("%q: %d %s %s", c.args, code, out, errText)
		}
		for _, want := range c.out {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in %s", c.args, want, out)
			}
		}
	}
	var all []receive.Verification
	code, out, errText := once(t, "verify", "--output", output, "--json", "--seal-keys", keys)
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) != 1 {
		t.Fatalf("%d %s %s %v", code, out, errText, err)
	}
	if s := all[0].Seals; s == nil || s.Count != 3 || s.Sealed != 60 || !s.Unbroken || s.Last.Position != 60 || s.Last.ID != last || s.Keys[0].Key != public || !s.Keys[0].Vouched {
		t.Errorf("%s", out)
	}
}

// The ledger's seals are one line as long as each goes on where the one before it ended.
func TestLedgerSumsSealsUp(t *testing.T) {
	t.Parallel()
	output, key, _ := sealedOutput(t)
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	code, out, errText := once(t, "ledger", "web1/syslog", "--output", output)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 4 || !strings.Contains(lines[2], "3 seals by key "+public[:8]) || strings.Join(strings.Fields(lines[2])[1:5], " ") != "seal 7 0 60" {
		t.Errorf("%d %s %s", code, out, errText)
	}
	code, out, _ = once(t, "ledger", "web1/syslog", "--output", output, "--json")
	if code != 0 || strings.Count(out, `"event": "seal"`) != 3 {
		t.Errorf("%d %s", code, out)
	}
	if code, out, errText := once(t, "cat", "web1/syslog", "--output", output); code != 0 || len(out) != 60 || errText != "" {
		t.Errorf("%d %s %s", code, out, errText)
	}
}
