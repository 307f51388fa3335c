package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of the buckets; see the package comment.
const (
	Bucket    = "LOGFORWARD"
	Positions = "LOGFORWARD_POSITIONS"
	Leases    = "LOGFORWARD_LEASES"
)

const (
	layoutKey = "layout"
	pauseKey  = "pause"
)

// Layout is how the subjects are divided among streams. A new prefix or number
// of partitions makes a new layout.
type Layout struct {
	// ID is unique for ever. It is no counter, for a wiped broker would count anew.
	ID         string    `json:"id"`
	Prefix     string    `json:"prefix"`
	Partitions int       `json:"partitions"`
	Replicas   int       `json:"replicas"`
	Created    time.Time `json:"created"`
}

// Pause is the red button: while it is set, nodes don't publish.
type Pause struct {
	Since time.Time `json:"since"`
	// Until ends it by itself; zero means that someone must.
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	// Match is a glob of the identities that it holds for; empty means all.
	Match string `json:"match,omitempty"`
}

// Shared is the bucket that holds what the whole fleet shares.
type Shared struct {
	js jetstream.JetStream
	kv jetstream.KeyValue
}

// OpenShared opens the bucket; ErrNoStream says that setup hasn't made it.
func OpenShared(ctx context.Context, js jetstream.JetStream) (*Shared, error) {
	kv, err := openBucket(ctx, js, Bucket)
	if err != nil {
		return nil, err
	}
	return &Shared{js: js, kv: kv}, nil
}

// Layout reads the layout; ErrNotFound says that there is none.
func (s *Shared) Layout(ctx context.Context) (Layout, error) {
	var l Layout
	_, err := s.get(ctx, layoutKey, &l)
	return l, err
}

// Pause reads the red button; ErrNotFound says that it isn't pressed. It says so
// too once Until is past, by this machine's clock.
func (s *Shared) Pause(ctx context.Context) (Pause, error) {
	var p Pause
	_, err := s.get(ctx, pauseKey, &p)
	if err == nil && !p.Until.IsZero() && !time.Now().Before(p.Until) {
		return Pause{}, fmt.Errorf("read %s: ended at %s: %w", pauseKey, p.Until.Format(time.RFC3339), ErrNotFound)
	}
	return p, err
}

// SetPause presses the red button, over whatever was there.
func (s *Shared) SetPause(ctx context.Context, p Pause) error {
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write %s: %w", pauseKey, err)
	}
	if _, err := s.kv.Put(ctx, pauseKey, value); err != nil {
		return fmt.Errorf("write %s to bucket %s: %w", pauseKey, Bucket, apiError(err))
	}
	return nil
}

// ClearPause releases the red button; that it wasn't pressed is no error.
func (s *Shared) ClearPause(ctx context.Context) error {
	if err := s.kv.Delete(ctx, pauseKey); err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", pauseKey, Bucket, apiError(err))
	}
	return nil
}

// State is what [Shared.Watch] reports; nil means that the key has no value.
type State struct {
	Layout *Layout
	Pause  *Pause
}

// Watch reads both keys every so often until ctx ends, and calls changed with
// the first state and each later one that differs. It asks instead of
// subscribing: a subscription can fall silent when a broker was wiped, and the
// red button must not. Errors go to failed; the state then stays what it was. A
// broker that has lost the bucket is an error and not an empty state.
func (s *Shared) Watch(ctx context.Context, every time.Duration, changed func(State), failed func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []byte
	for {
		state, err := s.state(ctx, every)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed(err)
		default:
			// Layout and Pause always marshal: they hold nothing that can't.
			if now, err := json.Marshal(state); err != nil {
				failed(fmt.Errorf("compare states: %w", err))
			} else if string(now) != string(last) {
				last = now
				changed(state)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Shared) state(ctx context.Context, within time.Duration) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, max(within, 2*time.Second))
	defer cancel()
	var state State
	layout, err := s.Layout(ctx)
	switch {
	case err == nil:
		state.Layout = &layout
	case !errors.Is(err, ErrNotFound):
		return State{}, err
	}
	pause, err := s.Pause(ctx)
	switch {
	case err == nil:
		state.Pause = &pause
	case !errors.Is(err, ErrNotFound):
		return State{}, err
	}
	return state, nil
}

// get reads JSON and its revision.
func (s *Shared) get(ctx context.Context, key string, into any) (uint64, error) {
	return readJSON(ctx, s.js, key, into)
}

func readJSON(ctx context.Context, js jetstream.JetStream, key string, into any) (uint64, error) {
	value, revision, err := readKey(ctx, js, Bucket, key)
	if err != nil {
		return revision, err
	}
	if err := json.Unmarshal(value, into); err != nil {
		return revision, fmt.Errorf("read %s from bucket %s, revision %d: %w", key, Bucket, revision, err)
	}
	return revision, nil
}

func openBucket(ctx context.Context, js jetstream.JetStream, bucket string) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, apiError(err))
	}
	return kv, nil
}

// apiError adds this package's sentinel to an error of the JetStream API.
func apiError(err error) error {
	kind := apiKind(err)
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func apiKind(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrJetStreamNotEnabledForAccount):
		return ErrNoJetStream
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return ErrNotFound
	case errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, nats.ErrStreamNotFound),
		errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		// No responder at an API subject means no JetStream, but a publish into a
		// bucket has none either when its stream is gone. The latter is what
		// happens in the field.
		return ErrNoStream
	case errors.Is(err, nats.ErrPermissionViolation):
		return ErrPermission
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return ErrTimeout
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrDisconnected):
		return ErrDisconnected
	}
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return newAnswerError(api.Code, int(api.ErrorCode), api.Description).kind
	}
	return nil
}
