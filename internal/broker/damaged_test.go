package broker_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"logforward/internal/broker"
)

// damagedStore is a broker's store in which a disk has damaged one of three records.
func damagedStore(t *testing.T, which string) (address, store string) {
	t.Helper()
	address, store = freeAddress(t), t.TempDir()
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	nc := connect(t, broker.Options{URLs: []string{address}})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r := openRecords(t, js, broker.PublisherOptions{})
	for _, key := range threeRecords {
		if _, err := update(t, r, key, "value of "+key, 0); err != nil {
			t.Fatal(err)
		}
	}
	nc.Close()
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(store, "jetstream", "*", "streams", "KV_LOGFORWARD_POSITIONS", "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, path := range blocks {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(b, []byte("value of "+which)); i >= 0 {
			b[i] ^= 0x55
			damaged++
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if damaged != 1 {
		t.Fatalf("record is in %d of %q", damaged, blocks)
	}
	return address, store
}

var threeRecords = []string{"first.log", "middle.log", "last.log"}

// The broker drops a damaged record when it starts: it can be watched, read and written, and no record says anything else than before.
func TestDamagedRecordIsDroppedAtTheStart(t *testing.T) {
	t.Parallel()
	for _, which := range threeRecords {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			address, store := damagedStore(t, which)
			serve(t, broker.ServerOptions{Listen: address, Store: store})
			js := streamAPI(t, connect(t, broker.Options{URLs: []string{address}}))
			r := openRecords(t, js, broker.PublisherOptions{})
			ctx, cancel := context.WithTimeout(testContext(t), 30*time.Second)
			defer cancel()
			got, caught := map[string]string{}, false
			r.Watch(ctx, func() { clear(got) }, func(rec broker.Record) { got[rec.Key] = string(rec.Value) }, func() { caught = true; cancel() }, func(err error) { t.Errorf("watch: %v", err) })
			if !caught {
				t.Fatal("not all records came")
			}
			if _, there := got[which]; there {
				t.Errorf("the damaged record came: %q", got)
			}
			for key, value := range got {
				if value != "value of "+key {
					t.Errorf("%s is %q", key, value)
				}
			}
			for _, key := range threeRecords {
				_, revision, _ := r.Get(testContext(t), key) // not found: 0
				if _, err := update(t, r, key, "anew", revision); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
}

// Another NATS server goes by its index, counts the damaged record, and doesn't deliver it. Who watches is told.
func TestWatchTellsOfARecordThatNeverComes(t *testing.T) {
	t.Parallel()
	_, store := damagedStore(t, "last.log")
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: store, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server doesn't start")
	}
	js := streamAPI(t, connect(t, broker.Options{URLs: []string{s.ClientURL()}}))
	r := openRecords(t, js, broker.PublisherOptions{})
	r.CheckWatchEvery(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(testContext(t), 30*time.Second)
	defer cancel()
	var told error
	r.Watch(ctx, func() {}, func(broker.Record) {}, func() { t.Error("it is said to be complete") }, func(err error) { told = err; cancel() })
	if told == nil || !strings.Contains(told.Error(), broker.Positions) || !strings.Contains(told.Error(), "damaged") {
		t.Errorf("told: %v", told)
	}
}
