package choria

import (
	"crypto/ed25519"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/choria-io/tokens"
	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Sentinels, for what an operator does about them differs.
var (
	ErrExpired  = errors.New("token is expired")
	ErrWrongKey = errors.New("token belongs to another key")
)

// identity is the [broker.Identity] of a Choria configuration.
type identity struct {
	config *Config
	unique string // its replies come to <collective>.reply.<unique>
	ou     string // organization unit of a client's token
}

var _ broker.Identity = (*identity)(nil)

// Connection completes the options of a connection by what the configuration says: brokers, authorities,
// certificate, credentials. What is set already stays.
func (c *Config) Connection(o *broker.Options) error {
	id := &identity{config: c, unique: unique(c.Identity)}
	o.Identity = id
	if o.TLS.CA == "" {
		o.TLS.CA = c.CA
	}
	if c.Provider != "choria" {
		if o.TLS.Certificate == "" {
			o.TLS.Certificate, o.TLS.Key = c.Certificate, c.Key
		}
		return nil
	}
	t, err := c.token()
	if err != nil {
		return err
	}
	id.unique, id.ou = unique(t.name), t.ou
	return nil
}

// unique is what stands for a caller in reply subjects (tokens.ServerClaims.UniqueID, tokens.ClientIDClaims.UniqueID).
func unique(name string) string {
	sum := md5.Sum([]byte(name))
	return hex.EncodeToString(sum[:])
}

// token is what is used of a JWT.
type token struct {
	raw       string
	server    bool
	name      string // identity or caller id
	ou        string
	publish   []string // --subjects of a server, --publish of a client
	subscribe []string
	streams   bool // --stream-user or --stream-admin of a client
	expires   time.Time
}

// token reads the JWT and the seed anew, for both may be renewed in place, and checks that they belong together.
// The broker verifies the JWT's signature; here nobody could: the issuer's key is not known.
func (c *Config) token() (*token, error) {
	raw, err := c.read("token", c.Token)
	if err != nil {
		return nil, err
	}
	t := &token{raw: string(raw)}
	var public string // in hex
	switch tokens.TokenPurpose(t.raw) {
	case tokens.ServerPurpose:
		claims, err := tokens.ParseServerTokenUnverified(t.raw)
		if err != nil {
			return nil, fmt.Errorf("choria token %s: %w", c.Token, expired(err))
		}
		t.server, t.name, t.ou, t.publish, t.expires = true, claims.ChoriaIdentity, claims.OrganizationUnit, claims.AdditionalPublishSubjects, claims.ExpireTime()
		public = claims.PublicKey
	case tokens.ClientIDPurpose:
		claims, err := tokens.ParseClientIDTokenUnverified(t.raw)
		if err != nil {
			return nil, fmt.Errorf("choria token %s: %w", c.Token, expired(err))
		}
		t.name, t.ou, t.publish, t.subscribe, t.expires = claims.CallerID, claims.OrganizationUnit, claims.AdditionalPublishSubjects, claims.AdditionalSubscribeSubjects, claims.ExpireTime()
		t.streams = claims.Permissions != nil && (claims.Permissions.StreamsAdmin || claims.Permissions.StreamsUser || claims.Permissions.OrgAdmin)
		public = claims.PublicKey
	default:
		return nil, fmt.Errorf("choria token %s: it is neither a server's nor a client's JWT", c.Token)
	}
	if !t.expires.IsZero() && time.Now().After(t.expires) {
		return nil, fmt.Errorf("choria token %s: %w since %s; issue a new one, it is read again at each connection", c.Token, ErrExpired, t.expires.UTC().Format(time.RFC3339))
	}
	seed, err := c.read("seed", c.Seed)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(string(seed))
	if err != nil || len(key) != ed25519.SeedSize {
		return nil, fmt.Errorf("choria seed %s: %d bytes that are no ed25519 seed in hex", c.Seed, len(seed))
	}
	if own := ed25519.NewKeyFromSeed(key).Public().(ed25519.PublicKey); !strings.EqualFold(public, hex.EncodeToString(own)) {
		return nil, fmt.Errorf("choria token %s: %w than the seed %s; one of them is another process's", c.Token, ErrWrongKey, c.Seed)
	}
	return t, nil
}

// expired makes the parser's complaint about the time one that can be told apart.
func expired(err error) error {
	if strings.Contains(err.Error(), "expired") {
		return fmt.Errorf("%w: %w", ErrExpired, err)
	}
	return err
}

// NATSOptions implements [broker.Identity]. Token and seed are read again for each connection.
func (i *identity) NATSOptions() ([]nats.Option, error) {
	c := i.config
	if c.Provider != "choria" {
		return nil, nil // the certificate is among the TLS options
	}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	current := func() (jwt func() (string, error), sign func([]byte) ([]byte, error), err error) {
		t, err := c.token()
		if err != nil {
			return nil, nil, err
		}
		if unique(t.name) != i.unique {
			return nil, nil, fmt.Errorf("choria token %s is now %s's; restart to be another", c.Token, t.name)
		}
		_, jwt, sign, err = tokens.NatsConnectionHelpers(t.raw, c.Collective, c.Seed, logrus.NewEntry(quiet))
		return jwt, sign, err
	}
	return []nats.Option{
		nats.TokenHandler(func() string {
			t, err := c.token()
			if err != nil {
				return "" // the JWT handler says why
			}
			return t.raw
		}),
		nats.UserJWT(
			func() (string, error) {
				jwt, _, err := current()
				if err != nil {
					return "", err
				}
				return jwt()
			},
			func(nonce []byte) ([]byte, error) {
				_, sign, err := current()
				if err != nil {
					return nil, err
				}
				return sign(nonce)
			}),
	}, nil
}

// InboxPrefix implements [broker.Identity].
func (i *identity) InboxPrefix() string { return i.config.Collective + ".reply." + i.unique }

// NodeInbox implements [broker.Identity]: a node hears replies below a subject that its identity gives,
// so a hello can't have a receiver answer to anybody else.
func (i *identity) NodeInbox(identityToken string) string {
	name, err := chunk.ParseToken(identityToken)
	if err != nil {
		return i.config.Collective + ".reply.nobody."
	}
	return i.config.Collective + ".reply." + unique(name) + "."
}

// ControlSubject implements [broker.Identity].
func (i *identity) ControlSubject(identityToken string) string {
	return i.NodeInbox(identityToken) + "logforward"
}

// StreamAPI is the prefix of the streams' API for a client's token: accounts of other organizations
// than choria see it below choria.streams. Empty: the default.
func (i *identity) StreamAPI() string {
	if i.ou != "" && i.ou != "choria" {
		return "choria.streams"
	}
	return ""
}
