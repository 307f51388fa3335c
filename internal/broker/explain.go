package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"
)

// ConnectError is why a broker could not be connected to, with what to do.
type ConnectError struct {
	Broker string // the URLs, without passwords
	Kind   error  // ErrUnreachable, ErrAuthentication, ErrCertificate, or nil
	Err    error  // what happened
	Advice string // what to look at
}

func (e *ConnectError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connect to %s: ", e.Broker)
	if e.Kind != nil {
		fmt.Fprintf(&b, "%v: ", e.Kind)
	}
	fmt.Fprintf(&b, "%v", e.Err)
	if e.Advice != "" {
		fmt.Fprintf(&b, ". %s", e.Advice)
	}
	return b.String()
}

func (e *ConnectError) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// explain turns what the library reports into what, where, what to do.
func explain(err error, d *dialer, o Options, urls []string) error {
	e := &ConnectError{Broker: redacted(urls), Err: err}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var network *net.OpError
	switch {
	case errors.As(err, &unknown):
		e.Kind = ErrCertificate
		e.Advice = fmt.Sprintf("The broker's certificate is not signed by %s: set ca to the file of the authority that did", o.TLS.authority())
	case errors.As(err, &host):
		e.Kind = ErrCertificate
		e.Advice = fmt.Sprintf("The broker's certificate is for %s: use that name in the URL or set server_name", names(host.Certificate))
	case errors.As(err, &invalid):
		e.Kind = ErrCertificate
		e.Advice = "The broker's certificate is not valid; look at its dates and at this machine's clock"
	case isRemoteTLS(err):
		e.Kind = ErrCertificate
		if o.TLS.Certificate == "" {
			e.Advice = "The broker seems to want a client certificate: set certificate and key"
		} else {
			e.Advice = fmt.Sprintf("The broker seems to refuse the client certificate %s: look at its dates and at who signed it", o.TLS.Certificate)
		}
	case errors.Is(err, nats.ErrSecureConnWanted):
		e.Kind = ErrCertificate
		e.Advice = "The broker offers no TLS on this port: use the right port, or nats:// and no ca and certificate"
	case errors.Is(err, nats.ErrTLS):
		e.Kind = ErrCertificate
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired):
		e.Kind = ErrAuthentication
		e.Advice = fmt.Sprintf("Sent was %s; compare with the broker's configuration", sent(o, urls))
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.As(err, &network):
		e.Kind = ErrUnreachable
		if failures := d.failures(); len(failures) > 0 {
			// More exact than the library's "no servers".
			e.Err = errors.Join(failures...)
			if len(failures) > 1 {
				texts := make([]string, len(failures))
				for i, failure := range failures {
					texts[i] = failure.Error()
				}
				e.Err = joined{strings.Join(texts, "; "), failures}
			}
		}
		e.Advice = "Does the broker run there, and does a firewall let this machine in?"
	case errors.Is(err, nats.ErrNoInfoReceived):
		e.Kind = ErrUnreachable
		e.Advice = "What answers there is not a NATS server"
	}
	return e
}

// joined is several errors on one line.
type joined struct {
	text string
	list []error
}

func (j joined) Error() string   { return j.text }
func (j joined) Unwrap() []error { return j.list }

// isRemoteTLS says whether the other side didn't want the handshake. Under TLS 1.3
// a refused client certificate only shows when the first bytes go over the
// connection, as an alert or, if it is gone by then, as a broken connection.
func isRemoteTLS(err error) bool {
	if strings.Contains(err.Error(), "remote error: tls:") {
		return true
	}
	return errors.Is(err, nats.ErrTLS) &&
		(errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF))
}

// sent says which credentials were sent, without the secret ones.
func sent(o Options, urls []string) string {
	var what []string
	if o.User != "" {
		what = append(what, fmt.Sprintf("user %q with a password", o.User))
	}
	if o.Token != "" {
		what = append(what, "a token")
	}
	if o.NKeySeed != "" {
		what = append(what, "the nkey of "+o.NKeySeed)
	}
	if o.Credentials != "" {
		what = append(what, "the credentials of "+o.Credentials)
	}
	if o.TLS.Certificate != "" {
		what = append(what, "the certificate "+o.TLS.Certificate)
	}
	if len(what) == 0 {
		for _, u := range urls {
			if strings.Contains(u, "@") {
				return "what the URL holds"
			}
		}
		return "no credentials"
	}
	return strings.Join(what, ", ")
}

// names are those that a certificate is for.
func names(c *x509.Certificate) string {
	list := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	if len(list) == 0 {
		return "no name"
	}
	return strings.Join(list, ", ")
}
