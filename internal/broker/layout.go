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
	Prefix     string    `json:"prefix"`     // of subjects
	Partitions int       `json:"partitions"` // how many there are
	Replicas   int       `json:"replicas"`   // of each stream
	Created    time.Time `json:"created"`    // when setup made it
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
