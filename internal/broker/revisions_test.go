package broker_test

import (
	"testing"

	"logforward/internal/broker"
)

// Revisions go on where they were though the broker reads its buckets anew, also of one in which nothing is: they must never come twice.
func TestRevisionsGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	for _, records := range []int{0, 1} {
		address, store := freeAddress(t), t.TempDir()
		s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
		if err != nil {
			t.Fatal(err)
		}
		nc := connect(t, broker.Options{URLs: []string{address}})
		js := streamAPI(t, nc)
		setUp(t, js, broker.Wanted{Partitions: 1})
		r := openRecords(t, js, broker.PublisherOptions{})
		for range records {
			if _, err := update(t, r, "a.log", "before", 0); err != nil {
				t.Fatal(err)
			}
		}
		stream, err := js.Stream(testContext(t), "KV_"+broker.Positions)
		if err != nil {
			t.Fatal(err)
		}
		last := stream.CachedInfo().State.LastSeq
		if last < 1e15 { // setup begins them by the clock
			t.Fatalf("revision %d", last)
		}
		nc.Close()
		if err := s.Shutdown(); err != nil {
			t.Fatal(err)
		}
		serve(t, broker.ServerOptions{Listen: address, Store: store})
		js = streamAPI(t, connect(t, broker.Options{URLs: []string{address}}))
		if got, err := update(t, openRecords(t, js, broker.PublisherOptions{}), "b.log", "after", 0); err != nil || got != last+1 {
			t.Errorf("%d records: revision %d behind %d, %v", records, got, last, err)
		}
	}
}
