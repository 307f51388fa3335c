package choria

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		want       Config
		fails      string
	}{
		{name: "protocol v2", text: "# a comment\nidentity = n1.example.net\ncollectives = choria, eu\nplugin.security.provider=choria\nplugin.choria.middleware_hosts = nats://b1:4222, b2\n plugin.yaml = /f.json\nplugin.choria.use_srv = false\n",
			want: Config{Identity: "n1.example.net", Collective: "choria", Provider: "choria", Facts: "/f.json", Classes: "/opt/puppetlabs/puppet/cache/state/classes.txt",
				Hosts: []string{"nats://b1:4222", "b2"}, Token: dir + "/server.jwt", Seed: dir + "/server.seed"}},
		{name: "puppet is the default", text: "identity = n1\nmain_collective = eu\ncollectives = mcollective,eu\n",
			want: Config{Identity: "n1", Collective: "eu", Provider: "puppet", UseSRV: true, Classes: "/opt/puppetlabs/puppet/cache/state/classes.txt",
				CA: "/etc/puppetlabs/puppet/ssl/certs/ca.pem", Certificate: "/etc/puppetlabs/puppet/ssl/certs/n1.pem", Key: "/etc/puppetlabs/puppet/ssl/private_keys/n1.pem"}},
		{name: "files", text: "identity = n1\nplugin.security.provider = file\nplugin.security.file.ca = /ca\nplugin.security.file.certificate = /c\nplugin.security.file.key = /k\nclassesfile=/x\n",
			want: Config{Identity: "n1", Collective: "mcollective", Provider: "file", UseSRV: true, Classes: "/x", CA: "/ca", Certificate: "/c", Key: "/k"}},
		{name: "files, incomplete", text: "identity = n1\nplugin.security.provider = file\n", fails: "plugin.security.file.ca"},
		{name: "another provider", text: "identity = n1\nplugin.security.provider = pkcs11\n", fails: "pkcs11"},
		{name: "a collective that is a wildcard", text: "identity = n1\nmain_collective = >\n", fails: "main_collective"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := write(t, filepath.Join(dir, "server.conf"), c.text)
			got, err := Load(file)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || !strings.Contains(err.Error(), file) {
					t.Fatalf("%v; want one that names %s", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.File = file
			if g, w := *got, c.want; g.Identity != w.Identity || g.Collective != w.Collective || g.Provider != w.Provider || g.Facts != w.Facts || g.Classes != w.Classes ||
				strings.Join(g.Hosts, " ") != strings.Join(w.Hosts, " ") || g.UseSRV != w.UseSRV || g.CA != w.CA || g.Certificate != w.Certificate || g.Key != w.Key || g.Token != w.Token || g.Seed != w.Seed {
				t.Errorf("got  %+v\nwant %+v", g, w)
			}
		})
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
}

func TestBrokersAreAlwaysTLS(t *testing.T) {
	for hosts, want := range map[string]string{
		"b1:4222":                   "tls://b1:4222",
		"nats://b1:5222,b2":         "tls://b1:5222 tls://b2:4222",
		"wss://b1:443/x, ws://b2:8": "wss://b1:443/x wss://b2:8",
		"http://b1":                 "",
		"nats://":                   "",
	} {
		got, err := (&Config{Hosts: list(hosts)}).Brokers(t.Context())
		if (err != nil) != (want == "") || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v; want %s", hosts, got, err, want)
		}
	}
	if got, err := (&Config{}).Brokers(t.Context()); err != nil || got[0] != "tls://puppet:4222" {
		t.Errorf("without any: %v, %v", got, err)
	}
}

// issue makes a server's or client's token and seed below dir, and the configuration that names them.
func issue(t *testing.T, dir, purpose, name string, validity time.Duration, subjects ...string) *Config {
	t.Helper()
	_, issuer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	seed := write(t, filepath.Join(dir, "own.seed"), hex.EncodeToString(private.Seed())+"\n")
	file := filepath.Join(dir, "own.jwt")
	issuerSeed := filepath.Join(dir, "issuer.seed")
	write(t, issuerSeed, hex.EncodeToString(issuer.Seed()))
	var claims any
	if purpose == "server" {
		claims, err = tokens.NewServerClaims(name, []string{"choria"}, "choria", &tokens.ServerPermissions{}, subjects, public, "test", validity)
	} else {
		claims, err = tokens.NewClientIDClaims(name, nil, "acme", nil, "", "test", validity, &tokens.ClientPermissions{StreamsUser: true}, public)
	}
	if err != nil {
		t.Fatal(err)
	}
	switch c := claims.(type) {
	case *tokens.ServerClaims:
		err = tokens.SaveAndSignTokenWithKeyFile(c, issuerSeed, file, 0o600)
	case *tokens.ClientIDClaims:
		err = tokens.SaveAndSignTokenWithKeyFile(c, issuerSeed, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Config{File: "server.conf", Identity: name, Collective: "choria", Provider: "choria", Token: file, Seed: seed}
}

func TestServersIdentity(t *testing.T) {
	c := issue(t, t.TempDir(), "server", "n1.example.net", time.Hour, "logs.*.n1=2Eexample=2Enet.>")
	var o broker.Options
	if err := c.Connection(&o); err != nil {
		t.Fatal(err)
	}
	// md5 of n1.example.net, as Choria computes a server's inbox
	const own = "choria.reply.38e94427598c62d98e1d2121c68a20a4"
	if got := o.Identity.InboxPrefix(); got != own {
		t.Errorf("inbox prefix %s", got)
	}
	self := chunk.Token("n1.example.net")
	if inbox := o.Identity.NodeInbox(self); inbox != o.Identity.InboxPrefix()+"." || o.Identity.ControlSubject(self) != inbox+"logforward" {
		t.Errorf("inbox %s, control %s", inbox, o.Identity.ControlSubject(self))
	}
	if o.Identity.NodeInbox(chunk.Token("n2.example.net")) == o.Identity.NodeInbox(self) {
		t.Error("two nodes have one inbox")
	}
	if api := o.Identity.StreamAPI(); api != "" {
		t.Errorf("stream API %s", api)
	}
	if options, err := o.Identity.NATSOptions(); err != nil || len(options) == 0 {
		t.Errorf("%d options, %v", len(options), err)
	}
	if missing, err := c.Missing("logs"); err != nil || missing != "" {
		t.Errorf("missing %q, %v", missing, err)
	}
	missing, err := c.Missing("other")
	if err != nil || !strings.Contains(missing, "--subjects 'other.*.n1=2Eexample=2Enet.>'") || !strings.Contains(missing, "choria jwt server") {
		t.Errorf("missing %q, %v", missing, err)
	}
}

func TestClientOfAnotherOrganizationHasItsStreamsElsewhere(t *testing.T) {
	c := issue(t, t.TempDir(), "client", "up=receiver", time.Hour)
	var o broker.Options
	if err := c.Connection(&o); err != nil {
		t.Fatal(err)
	}
	if got := o.Identity.StreamAPI(); got != "choria.streams" {
		t.Errorf("stream API %q", got)
	}
}

func TestTokensThatCannotServe(t *testing.T) {
	dir := t.TempDir()
	c := issue(t, dir, "server", "n1", time.Hour)
	var o broker.Options
	fails := func(what string, want error, texts ...string) {
		t.Helper()
		err := c.Connection(&o)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v; it doesn't say %s", what, err, text)
			}
		}
	}
	good, _ := os.ReadFile(c.Seed)
	write(t, c.Seed, strings.Repeat("ab", 32))
	fails("another's seed", ErrWrongKey, c.Token, c.Seed)
	write(t, c.Seed, "xyz")
	fails("no seed", nil, c.Seed)
	os.Remove(c.Seed)
	fails("a missing seed", os.ErrNotExist, c.Seed, c.File)
	write(t, c.Seed, string(good))
	write(t, c.Token, "no token")
	fails("no token", nil, c.Token)
	os.Remove(c.Token)
	fails("a missing token", os.ErrNotExist, c.Token, c.File)
	c = issue(t, dir, "server", "n1", time.Millisecond)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := c.Connection(&o); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the token never expires")
		}
	}
	fails("an expired token", ErrExpired, c.Token)
}

// TestTokenIsReadAgain: a renewed token takes effect at the next connection, without a restart.
func TestTokenIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	c := issue(t, dir, "server", "n1", time.Hour)
	var o broker.Options
	if err := c.Connection(&o); err != nil {
		t.Fatal(err)
	}
	before, _ := c.token()
	issue(t, dir, "server", "n1", 2*time.Hour)
	after, err := c.token()
	if err != nil || after.raw == before.raw {
		t.Errorf("the old token still counts: %v", err)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		have, need string
		want       bool
	}{
		{"logs.*.n1.>", "logs.*.n1.>", true}, {"logs.>", "logs.*.n1.>", true}, {">", "logs.*.n1.>", true},
		{"logs.0.n1.>", "logs.*.n1.>", false}, {"logs.*.n2.>", "logs.*.n1.>", false}, {"logs.*.n1.*", "logs.*.n1.>", false},
		{"logs.*.*.>", "logs.*.n1.>", true}, {"logs.*.n1", "logs.*.n1.>", false}, {"logs.*.n1.a.>", "logs.*.n1.>", false},
	} {
		if got := covers(c.have, c.need); got != c.want {
			t.Errorf("%s covers %s: %v", c.have, c.need, got)
		}
	}
}
