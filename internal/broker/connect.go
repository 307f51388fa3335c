package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	dialTimeout    = 5 * time.Second
	pingEvery      = 20 * time.Second
	pingsLost      = 2
	writeTimeout   = 30 * time.Second
	firstBackoff   = 100 * time.Millisecond
	longestBackoff = 30 * time.Second
)

// Options of [Connect].
type Options struct {
	// URLs of one broker or one cluster; the scheme is nats, tls, ws or wss, and
	// nats if there is none.
	URLs []string
	// Name is shown by the broker's monitoring.
	Name string

	User, Password string
	Token          string
	NKeySeed       string // file with a user's nkey seed
	Credentials    string // file with a user's JWT and nkey seed
	TLS            TLS

	// InboxPrefix overrides the Identity's.
	InboxPrefix string
	// Identity; nil means PlainNATS.
	Identity Identity

	// Server, when set, is connected to inside this process; URLs are not used.
	Server *Server

	// Retry lets Connect return a connection that isn't up yet and goes on
	// trying, for good: a daemon must come up without its broker. Without it
	// Connect fails if no URL can be reached now. Either way a connection that
	// was up is brought up again, for good.
	Retry bool

	// The callbacks run one at a time on a goroutine of the connection; they
	// must not block for long. OnConnect is called when the connection is up for
	// the first time, OnReconnect each later time.
	OnConnect    func(*nats.Conn)
	OnDisconnect func(*nats.Conn, error)
	OnReconnect  func(*nats.Conn)
	// OnClosed is called when the connection has ended for good, whoever ended it: the client library does after some errors of the broker,
	// such as of a message that is bigger than it takes since a reload.
	OnClosed func(*nats.Conn)
	// OnPermission is called when the broker has refused a publish or a
	// subscription. NATS reports that later than the call, and only here.
	OnPermission func(Refusal)

	// Logger; nil means none.
	Logger *slog.Logger
}

// TLS names PEM files. A connection over TLS always verifies the broker's
// certificate: by CA, or without one by the system's authorities. All files are
// read again for each connection, so that they can be renewed in place.
type TLS struct {
	CA          string
	Certificate string
	Key         string
	// ServerName is the name that the broker's certificate must have; empty
	// means the host of the URL.
	ServerName string
}

// Connect connects to a broker. Errors wrap ErrUnreachable, ErrAuthentication
// or ErrCertificate where one of them is the cause. What is wrong with the
// options or their files is reported at once, with Retry too.
//
// ctx only bounds Connect itself; the caller closes the connection.
func Connect(ctx context.Context, o Options) (*nats.Conn, error) {
	urls, list, own, err := complete(&o)
	if err != nil {
		return nil, err
	}
	dial := newDialer(ctx)
	list = append(list, o.TLS.options(urls)...)
	list = append(list, behaviour(o, urls, dial)...)
	list = append(list, own...)

	release := dial.watch()
	nc, err := nats.Connect(strings.Join(urls, ","), list...)
	release()
	if err == nil {
		return nc, nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", err, ctx.Err())
	}
	return nil, explain(err, dial, o, urls)
}

// Check tells what [Connect] reports at once: what is wrong with the options or their files. It asks nobody.
func Check(o Options) error {
	_, _, _, err := complete(&o)
	return err
}

// complete fills in the options, and gives the broker's URLs, and who this is, as told here and by its identity.
func complete(o *Options) (urls []string, told, own []nats.Option, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Identity == nil {
		o.Identity = PlainNATS{}
	}
	if urls, err = checkURLs(*o); err != nil {
		return nil, nil, nil, fmt.Errorf("connect: %w", err)
	}
	if err := o.TLS.check(urls); err != nil {
		return nil, nil, nil, fmt.Errorf("connect to %s: %w", redacted(urls), err)
	}
	if told, err = credentials(*o); err != nil {
		return nil, nil, nil, fmt.Errorf("connect to %s: %w", redacted(urls), err)
	}
	own, err = o.Identity.NATSOptions()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("connect to %s: identity: %w", redacted(urls), err)
	}
	return urls, told, own, nil
}

// behaviour is how the connection acts, whoever it belongs to.
func behaviour(o Options, urls []string, dial *dialer) []nats.Option {
	inbox := o.InboxPrefix
	if inbox == "" {
		inbox = o.Identity.InboxPrefix()
	}
	list := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(dialTimeout),
		// A dead peer must be seen. The write deadline counts too: a publish
		// that hangs in a full socket holds the lock that the ping timer needs.
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(pingsLost),
		nats.FlusherTimeout(writeTimeout),
		nats.ReconnectBufSize(-1),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(backoff),
		nats.RetryOnFailedConnect(o.Retry),
		// Without this two refusals in a row end the connection for ever, and
		// credentials that an operator mends later would not be tried.
		nats.IgnoreAuthErrorAbort(),
		nats.SetCustomDialer(dial),
		nats.ConnectHandler(func(nc *nats.Conn) {
			o.Logger.Info("connected", "broker", nc.ConnectedUrlRedacted(), "server", nc.ConnectedServerName())
			if o.OnConnect != nil {
				o.OnConnect(nc)
			}
		}),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if err != nil { // nil: closed on purpose
				o.Logger.Warn("disconnected", "error", err)
			}
			if o.OnDisconnect != nil {
				o.OnDisconnect(nc, err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			o.Logger.Info("reconnected", "broker", nc.ConnectedUrlRedacted(), "server", nc.ConnectedServerName())
			if o.OnReconnect != nil {
				o.OnReconnect(nc)
			}
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if o.OnClosed != nil {
				o.OnClosed(nc)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if refusal, ok := parseRefusal(err); ok {
				o.Logger.Warn("the broker refuses", "operation", refusal.Op, "subject", refusal.Subject)
				if o.OnPermission != nil {
					o.OnPermission(refusal)
				}
				return
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			o.Logger.Warn("connection", "error", err, "subject", subject)
		}),
	}
	attempts := &attempts{log: o.Logger, every: time.Minute}
	list = append(list, nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
		attempts.failed(explain(err, dial, o, urls))
	}))
	if inbox != "" {
		list = append(list, nats.CustomInboxPrefix(inbox))
	}
	if o.Server != nil {
		list = append(list, nats.InProcessServer(o.Server))
	}
	return list
}

// backoff is how long to wait after the list of servers was tried round times: from 100 ms growing by a quarter to 30 s, half of it by
// chance. So a connection comes back within about a third of the outage's length, at most half: soon after a short one, and
// after a long one a fleet is spread over half a minute instead of coming in one wave.
func backoff(round int) time.Duration {
	d := firstBackoff
	for range round - 1 {
		if d += d / 4; d >= longestBackoff {
			d = longestBackoff
			break
		}
	}
	return d/2 + rand.N(d/2+1)
}

// checkURLs gives the URLs with their schemes.
func checkURLs(o Options) ([]string, error) {
	if o.Server != nil {
		return []string{o.Server.URL()}, nil
	}
	var urls []string
	for _, text := range o.URLs {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil {
			// The error of url.Parse holds the text, and so perhaps a password.
			var parse *url.Error
			if errors.As(err, &parse) {
				err = parse.Err
			}
			return nil, fmt.Errorf("a broker URL can't be read: %w; expected nats://host:4222", err)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return nil, fmt.Errorf("broker URL %s: scheme %q is none of nats, tls, ws, wss", u.Redacted(), u.Scheme)
		}
		if u.Hostname() == "" {
			return nil, fmt.Errorf("broker URL %s: no host; expected %s://host:4222", u.Redacted(), u.Scheme)
		}
		urls = append(urls, text)
	}
	if len(urls) == 0 {
		return nil, errors.New("no broker URL is given, such as nats://host:4222")
	}
	return urls, nil
}

// redacted is the URLs for messages, without passwords.
func redacted(urls []string) string {
	shown := make([]string, len(urls))
	for i, text := range urls {
		shown[i] = "(a broker)"
		if u, err := url.Parse(text); err == nil {
			if u.User != nil {
				// A user without password is a token.
				u.User = url.User("xxxxx")
			}
			shown[i] = u.String()
		}
	}
	return strings.Join(shown, ", ")
}

// JetStream gives the API of a connection. apiPrefix is "" but for Choria
// organizations that have their own, such as "choria.streams".
func JetStream(nc *nats.Conn, apiPrefix string) (jetstream.JetStream, error) {
	var js jetstream.JetStream
	var err error
	if apiPrefix == "" {
		js, err = jetstream.New(nc)
	} else {
		js, err = jetstream.NewWithAPIPrefix(nc, apiPrefix)
	}
	if err != nil {
		return nil, fmt.Errorf("JetStream API %q: %w", apiPrefix, err)
	}
	return js, nil
}

// OpPublish and OpSubscribe are what a [Refusal] can be about.
const (
	OpPublish   = "publish"
	OpSubscribe = "subscribe"
)

// Refusal is one operation that the broker's permissions don't allow.
type Refusal struct {
	Op      string // OpPublish or OpSubscribe
	Subject string
}

// parseRefusal reads `… Permissions Violation for Publish to "SUBJECT"` and
// `… for Subscription to "SUBJECT" …`, as the server words them.
func parseRefusal(err error) (Refusal, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return Refusal{}, false
	}
	text := err.Error()
	r := Refusal{Op: OpPublish}
	_, rest, ok := strings.Cut(text, `Publish to "`)
	if !ok {
		r.Op = OpSubscribe
		_, rest, ok = strings.Cut(text, `Subscription to "`)
	}
	if ok {
		r.Subject, _, ok = strings.Cut(rest, `"`)
	}
	return r, ok
}

// attempts logs failed attempts to connect: each new text at once, the same one
// again at most every so often. A broker that is down for a night must not fill
// the log that is being forwarded. It is used by one goroutine.
type attempts struct {
	log   *slog.Logger
	every time.Duration
	text  string
	last  time.Time
	held  int
}

func (a *attempts) failed(err error) {
	if text := err.Error(); text != a.text || time.Since(a.last) >= a.every {
		a.log.Warn("can't connect, trying again", "error", err, "unsaid", a.held)
		a.text, a.last, a.held = text, time.Now(), 0
		return
	}
	a.held++
}

var _ nats.CustomDialer = (*dialer)(nil)
