package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

// credentials gives the options for what proves who we are, after looking at
// the files, so that a bad one is named before anything is dialled.
func credentials(o Options) ([]nats.Option, error) {
	var list []nats.Option
	ways := 0
	if o.User != "" {
		ways++
		list = append(list, nats.UserInfo(o.User, o.Password))
	} else if o.Password != "" {
		return nil, errors.New("a password is set and no user")
	}
	if o.Token != "" {
		ways++
		list = append(list, nats.Token(o.Token))
	}
	if o.NKeySeed != "" {
		ways++
		option, err := nats.NkeyOptionFromSeed(o.NKeySeed)
		if err != nil {
			return nil, fmt.Errorf("nkey seed %s: %w; it must be a file with a user's seed (SU…)", o.NKeySeed, err)
		}
		list = append(list, option)
	}
	if o.Credentials != "" {
		ways++
		if err := readable(o.Credentials); err != nil {
			return nil, fmt.Errorf("credentials %s: %w", o.Credentials, err)
		}
		list = append(list, nats.UserCredentials(o.Credentials))
	}
	if ways > 1 {
		return nil, errors.New("more than one of user, token, nkey and credentials is set: choose one")
	}
	return list, nil
}

func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// wanted says whether TLS is asked for. A broker that demands it gets it in any case.
func (t TLS) wanted(urls []string) bool {
	if t != (TLS{}) {
		return true
	}
	for _, u := range urls {
		if strings.HasPrefix(u, "tls://") || strings.HasPrefix(u, "wss://") {
			return true
		}
	}
	return false
}

func (t TLS) authority() string {
	if t.CA == "" {
		return "one of this system's authorities"
	}
	return t.CA
}

// check reads the files once.
func (t TLS) check(urls []string) error {
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return fmt.Errorf("%w: ca: %w", ErrCertificate, err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return fmt.Errorf("%w: ca %s holds no PEM certificate", ErrCertificate, t.CA)
		}
	}
	if (t.Certificate == "") != (t.Key == "") {
		return fmt.Errorf("%w: certificate and key go together, one of them is not set", ErrCertificate)
	}
	if t.Certificate != "" {
		if _, err := tls.LoadX509KeyPair(t.Certificate, t.Key); err != nil {
			return fmt.Errorf("%w: certificate %s with key %s: %w", ErrCertificate, t.Certificate, t.Key, err)
		}
	}
	for _, u := range urls {
		if t != (TLS{}) && strings.HasPrefix(u, "ws://") {
			return fmt.Errorf("%w: %s is without TLS and ca, certificate or server_name is set: use wss://", ErrCertificate, redacted([]string{u}))
		}
	}
	return nil
}

func (t TLS) options(urls []string) []nats.Option {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	set := func(o *nats.Options) error {
		// Set even where TLS isn't asked for: a broker can demand it.
		o.TLSConfig = config
		return nil
	}
	list := []nats.Option{set}
	if t.wanted(urls) {
		list = append(list, nats.Secure(config))
	}
	// These two read their files again at each handshake.
	if t.CA != "" {
		list = append(list, nats.RootCAs(t.CA))
	}
	if t.Certificate != "" {
		list = append(list, nats.ClientCert(t.Certificate, t.Key))
	}
	return list
}
