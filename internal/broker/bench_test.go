package broker_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// BenchmarkPublish compares the Publisher with the client library's own over one
// TCP connection to a server in this process, with the same window of bytes.
// "held" is the heap with a full window.
func BenchmarkPublish(b *testing.B) {
	const window = 16 << 20
	for _, size := range []int{4 << 10, 64 << 10, 512 << 10} {
		// A stream that stores little, so that the disk isn't what is measured.
		prepare := func(b *testing.B) (*nats.Conn, jetstream.JetStream) {
			nc := connect(b, broker.Options{URLs: []string{serve(b, broker.ServerOptions{}).URL()}})
			js := streamAPI(b, nc)
			if _, err := js.CreateStream(testContext(b), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"},
				Storage: jetstream.MemoryStorage, MaxMsgs: 1, Discard: jetstream.DiscardOld}); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			return nc, js
		}
		slots := max(window/size, 1)
		header := nats.Header{"Lf-Position": {"123456789"}, "Lf-Epoch": {"1795000000000000"}, "Lf-Length": {fmt.Sprint(size)}}
		b.Run(fmt.Sprintf("publisher/%d", size), func(b *testing.B) {
			nc, _ := prepare(b)
			p := newPublisher(b, nc, broker.PublisherOptions{})
			payload := make([]byte, size)
			free := make(chan struct{}, slots)
			b.ResetTimer()
			for range b.N {
				free <- struct{}{}
				p.Publish("s", header, payload, func(a broker.Ack) {
					if a.Err != nil {
						b.Error(a.Err)
					}
					<-free
				})
			}
			held := heap()
			for range slots {
				free <- struct{}{}
			}
			b.ReportMetric(held, "held-B")
		})
		b.Run(fmt.Sprintf("library/%d", size), func(b *testing.B) {
			nc, _ := prepare(b)
			js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(slots))
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for range b.N {
				// It retains the payload, so each needs its own.
				if _, err := js.PublishMsgAsync(&nats.Msg{Subject: "s", Header: header, Data: make([]byte, size)}); err != nil {
					b.Fatal(err)
				}
			}
			held := heap()
			<-js.PublishAsyncComplete()
			b.ReportMetric(held, "held-B")
		})
	}
}

func heap() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkUpdate is how many records a receiver can commit in a second.
func BenchmarkUpdate(b *testing.B) {
	nc := connect(b, broker.Options{URLs: []string{serve(b, broker.ServerOptions{}).URL()}})
	js := streamAPI(b, nc)
	setUp(b, js, broker.Wanted{Partitions: 1})
	p := newPublisher(b, nc, broker.PublisherOptions{})
	r, err := broker.OpenRecords(testContext(b), js, p, broker.Positions)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 500)
	free := make(chan struct{}, 1000)
	b.ResetTimer()
	for i := range b.N {
		free <- struct{}{}
		r.Update(fmt.Sprintf("node%d.log", i), value, 0, func(_ uint64, err error) {
			if err != nil {
				b.Error(err)
			}
			<-free
		})
	}
	for range cap(free) {
		free <- struct{}{}
	}
}
