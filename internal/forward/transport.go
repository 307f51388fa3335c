package forward

import (
	"sync"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
)

// transport carries chunks to a destination. Streams do it by storing them; one that
// hands them to a live receiver needs nothing else of this package.
type transport interface {
	// publish sends one chunk of a log by a layout. The chunk's data belongs to the
	// caller again when publish returns. done is called exactly once and must
	// not block: nil means that the chunk is stored, and after the chunks of
	// this log that were published before it. An error may still mean that it is.
	// quiet: no answer is asked for. The next chunk of this log that isn't quiet tells of this one, too, but one that was refused alone is a hole.
	publish(layout *chunk.Layout, log string, c *chunk.Chunk, quiet bool, done func(error))
}

// stream publishes to JetStream.
type stream struct {
	identity   string
	publisher  *broker.Publisher
	compressor *chunk.Compressor // nil: payloads are plain
	scratch    sync.Pool         // of *[]byte, for compressed payloads
}

func (s *stream) publish(layout *chunk.Layout, log string, c *chunk.Chunk, quiet bool, done func(error)) {
	subject := subjectOf(layout, s.identity, log)
	payload, encoding := c.Data, chunk.Plain
	if s.compressor != nil && c.Gap == nil {
		scratch, _ := s.scratch.Get().(*[]byte)
		if scratch == nil {
			scratch = new([]byte)
		}
		defer s.scratch.Put(scratch)
		if *scratch, encoding = s.compressor.Compress(*scratch, c.Data); encoding != chunk.Plain {
			payload = *scratch
		}
	}
	publish := s.publisher.Publish
	if quiet {
		publish = s.publisher.PublishQuietly
	}
	publish(subject, nats.Header(c.Header(encoding)), payload, func(a broker.Ack) { done(a.Err) })
}

func subjectOf(layout *chunk.Layout, identity, log string) string {
	return chunk.Subject{Prefix: layout.Prefix, Partition: chunk.Partition(identity, layout.Partitions), Identity: identity, Log: log}.String()
}
