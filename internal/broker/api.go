package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The calls here are made by hand: the library first asks for the whole stream's
// state, or reads from any replica where a stream allows that.

// SubjectPending is how many messages of exactly that subject the stream holds,
// by its leader's word. With WorkQueue retention these are the ones that no
// receiver has acknowledged.
func SubjectPending(ctx context.Context, js jetstream.JetStream, stream, subject string) (uint64, error) {
	if strings.ContainsAny(subject, "*>") {
		return 0, fmt.Errorf("count %s in stream %s: a subject without wildcards is needed", subject, stream)
	}
	subjects, err := SubjectsPending(ctx, js, stream, subject)
	return subjects[subject], err
}

// SubjectsPending is how many messages the stream holds of each subject that fits the filter, which may have wildcards, by its leader's word, in one
// answer. [ErrTooMany] says that these are more subjects than a server lists in one.
func SubjectsPending(ctx context.Context, js jetstream.JetStream, stream, filter string) (map[string]uint64, error) {
	var info struct {
		Total int `json:"total"` // of subjects
		State *struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	err := callAPI(ctx, js, "STREAM.INFO."+stream, map[string]string{"subjects_filter": filter}, &info)
	switch {
	case err != nil:
	case info.State == nil:
		err = fmt.Errorf("%w: no state", errBadAnswer)
	case info.Total > len(info.State.Subjects):
		err = fmt.Errorf("%w: %d", ErrTooMany, info.Total)
	}
	if err != nil {
		return nil, fmt.Errorf("count %s in stream %s: %w", filter, stream, err)
	}
	return info.State.Subjects, nil
}

// readKey reads a key of a bucket from its stream's leader. With ErrNotFound the
// revision is that of the key's deletion, or 0.
func readKey(ctx context.Context, js jetstream.JetStream, bucket, key string) ([]byte, uint64, error) {
	var got struct {
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	err := callAPI(ctx, js, "STREAM.MSG.GET.KV_"+bucket, map[string]string{"last_by_subj": "$KV." + bucket + "." + key}, &got)
	if err == nil && got.Message == nil {
		err = fmt.Errorf("%w: no message", errBadAnswer)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s from bucket %s: %w", key, bucket, err)
	}
	m := got.Message
	if len(m.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, 0, fmt.Errorf("read %s from bucket %s, revision %d: %w", key, bucket, m.Sequence, err)
		}
		// DEL or PURGE; a value has no such header.
		if header.Get("KV-Operation") != "" {
			return nil, m.Sequence, fmt.Errorf("read %s from bucket %s: deleted: %w", key, bucket, ErrNotFound)
		}
	}
	return m.Data, m.Sequence, nil
}

// callAPI makes one call of the JetStream API. Where ctx has no deadline the client library's default is waited for an answer. The
// error has this package's sentinel.
func callAPI(ctx context.Context, js jetstream.JetStream, call string, request, into any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok { // a server that dies with the request in hand never answers it
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, js.Options().DefaultTimeout)
		defer cancel()
	}
	m, err := js.Conn().RequestWithContext(ctx, apiSubject(js, call), body)
	if errors.Is(err, nats.ErrNoResponders) {
		// Streams that don't exist are answered for; so nobody is there at all.
		return fmt.Errorf("%w: %w", ErrNoJetStream, err)
	}
	if err != nil {
		return apiError(err)
	}
	var failure struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failure); err != nil {
		return fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	if failure.Error != nil {
		return apiError(failure.Error)
	}
	if err := json.Unmarshal(m.Data, into); err != nil {
		return fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return nil
}

// apiSubject is the full subject of a JetStream API call.
func apiSubject(js jetstream.JetStream, call string) string {
	o := js.Options()
	switch {
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "." + call
	case o.Domain != "":
		return "$JS." + o.Domain + ".API." + call
	}
	return jetstream.DefaultAPIPrefix + call
}
