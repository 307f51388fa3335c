package receive

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// What one list tells of many logs is what the streams tell of each, over an older layout's stream too, and of this node only.
func TestManyLogsAreCountedAsEach(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(3)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	r := &Receiver{js: js, config: Config{Prefix: "logs"}}
	publish := func(partition int, identity, log string) {
		s.node(identity, log).raw(chunk.Subject{Prefix: "logs", Partition: partition, Identity: identity, Log: log}.String(), nil, []byte("x"))
	}
	const now, then = 1, 2
	published := make(map[string]int)
	for i := range 40 {
		log := fmt.Sprintf("a.log%d", i)
		published[chunk.Token(log)] = []int{now, then}[i%2]
		for range i % 3 {
			for _, partition := range []int{0, now, then} {
				publish(partition, "web1.example.net", log)
			}
			publish(now, "web1", log)
		}
	}
	got, err := r.pendingOfAll(t.Context(), now, "web1.example.net", published)
	s.must(err)
	want := make(map[string]uint64)
	for token, at := range published {
		want[token], err = r.pendingOf(t.Context(), now, at, "web1.example.net", token)
		s.must(err)
	}
	if !maps.Equal(got, want) || len(want) != 40 || slices.Max(slices.Collect(maps.Values(want))) != 4 {
		t.Errorf("all at once: %v\neach: %v", got, want)
	}
	// One that names many partitions isn't a reason to list them all.
	i := 3
	for token := range published {
		published[token] = i
		i++
	}
	if _, err := r.pendingOfAll(t.Context(), now, "web1.example.net", published); !errors.Is(err, broker.ErrTooMany) {
		t.Errorf("40 partitions: %v", err)
	}
}
