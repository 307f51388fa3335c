package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logforward/internal/control"
	"logforward/internal/seed"
)

// From the setting to what an operator sees: the key, the line for the centre, and the last seal; and that a broken key stops nothing.
func TestSealingIsSeen(t *testing.T) {
	s := newSite(t)
	s.set("destination.central.seal = yes")
	key := filepath.Join(s.dir, "keys", "seal.key")
	s.set("seal_key = " + key)
	if f := s.finds("seal key", "failed")[0]; !strings.Contains(f.Text, key) {
		t.Errorf("%+v", f)
	}
	if err := os.Mkdir(filepath.Dir(key), 0o700); err != nil {
		t.Fatal(err)
	}
	if f := s.finds("seal key", "ok")[0]; !strings.Contains(f.Text, "will be made") {
		t.Errorf("%+v", f)
	}
	if code, out, errText := once(t, "seal-key", "--config", s.config); code == exitOK || out != "" || !strings.Contains(errText, key) || !strings.Contains(errText, "the daemon makes it") {
		t.Errorf("%d, %q, %s", code, out, errText)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("who only looks has made it")
	}

	s.startAll()
	s.define("app", "log: app\npath: "+filepath.Join(s.logs, "app.log")+"\nstart: beginning\n")
	s.append("app.log", "one line\n")
	s.arrives("app", "one line\n")
	private, err := seed.Load(key)
	if err != nil {
		t.Fatal(err)
	}
	public := hex.EncodeToString(private.Public().(ed25519.PublicKey))
	identity := s.status().Identity
	if code, out, errText := once(t, "seal-key", "--config", s.config); code != exitOK || out != identity+" "+public+"\n" || strings.Contains(errText, "error") {
		t.Errorf("%d, %q, %s", code, out, errText)
	}
	code, out, _ := once(t, "seal-key", "--json", "--config", s.config)
	var told struct {
		Identity, File string
		Key            string `json:"public_key"`
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != exitOK || told.Identity != identity || told.Key != public || told.File != key {
		t.Errorf("%d, %s, %v", code, out, err)
	}
	if f := s.finds("seal key", "ok")[0]; !strings.Contains(f.Text, public) {
		t.Errorf("%+v", f)
	}
	eventually(t, "the status has the last seal", func() bool {
		l := s.status().Logs
		return len(l) == 1 && l[0].Seal != nil && l[0].Seal.Position == uint64(len("one line\n")) && l[0].Seal.Epoch == l[0].Epoch && len(l[0].Seal.ID) == 64 && l[0].Seal.Error == ""
	})
	_, out, _ = once(t, "status", "--json", "--config", s.config)
	var raw struct{ Logs []map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(out), &raw); err != nil || len(raw.Logs) != 1 || !strings.Contains(string(raw.Logs[0]["seal"]), `"position": 9`) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSealingWithABrokenKeyIsLoud(t *testing.T) {
	s := newSite(t)
	s.set("destination.central.seal = yes")
	key := filepath.Join(s.dir, "seal.key")
	s.set("seal_key = " + key)
	if err := errors.Join(os.WriteFile(key, []byte("no key"), 0o600), os.Chmod(key, 0o600)); err != nil {
		t.Fatal(err)
	}
	if f := s.finds("seal key", "failed")[0]; !strings.Contains(f.Text, "no Ed25519 seed") || !strings.Contains(f.Remedy, "unsealed") {
		t.Errorf("%+v", f)
	}
	if code, out, errText := once(t, "seal-key", "--config", s.config); code != exitConfig || out != "" || !strings.Contains(errText, "no Ed25519 seed") {
		t.Errorf("%d, %q, %s", code, out, errText)
	}
	s.startAll()
	s.define("app", "log: app\npath: "+filepath.Join(s.logs, "app.log")+"\nstart: beginning\n")
	s.append("app.log", "one line\n")
	s.arrives("app", "one line\n")
	status := s.status()
	if l := status.Logs; len(l) != 1 || l[0].Seal == nil || !strings.Contains(l[0].Seal.Error, "no Ed25519 seed") || l[0].Seal.ID != "" || l[0].Error != "" {
		t.Errorf("%+v", l)
	}
	if p := fmt.Sprint(status.Problems); !strings.Contains(p, "logs go out unsealed") {
		t.Errorf("problems: %s", p)
	}
	if _, out, _ := once(t, "status", "--config", s.config); !strings.Contains(out, "app: UNSEALED: ") {
		t.Errorf("%s", out)
	}
	if code, out, _ := once(t, "check", "--config", s.config); code != 1 || !strings.Contains(out, "unsealed") {
		t.Errorf("%d: %s", code, out)
	}
}

// A node that seals nothing has no key, and nobody is asked for one.
func TestSealingIsOffUnlessSet(t *testing.T) {
	s := newSite(t)
	_, out, _ := once(t, "validate", "--json", "--config", s.config)
	if strings.Contains(out, `"seal key"`) {
		t.Errorf("%s", out)
	}
}

func (s *site) status() (r control.StatusReply) {
	s.t.Helper()
	s.ask(&r, "status")
	return r
}
