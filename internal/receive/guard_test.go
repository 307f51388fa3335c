package receive

import (
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/chunk"
)

// A file that is truncated between two appends isn't filled up with zeros.
func TestAppendLooksForTruncationFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := openFiles{output: dir, disk: &disk{output: dir}, limit: 8}
	h, err := o.disk.create(dir+"/x", 0o600, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	f := &file{name: "x"}
	o.adopt(f, h)
	defer o.closeAll()
	if err := o.append(f, []byte("some bytes\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dir+"/x", 3); err != nil {
		t.Fatal(err)
	}
	if err := o.append(f, []byte("more\n")); err == nil {
		t.Error("appended behind what is missing")
	}
	if b, err := os.ReadFile(dir + "/x"); err != nil || string(b) != "som" {
		t.Errorf("%q, %v", b, err)
	}
}

// A closed file stays for the second of its name: another could get the same one.
func TestNothingExpiresWithinItsSecond(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := &Receiver{config: Config{Output: t.TempDir(), RetainAge: time.Nanosecond}, now: func() time.Time { return now }}
	files := map[string]*closed{"a/b@1.log": {Key: "nobody's", Time: now.Add(-1900 * time.Millisecond)}}
	kept, err := r.expire(t.Context(), []string{"a/b@1.log"}, files)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%q, %v", kept, err)
	}
	// Later it may go, but not while nobody takes the ledger's line.
	now, files["a/b@1.log"].Key = now.Add(time.Second), "a.b"
	if kept, err := r.expire(t.Context(), []string{"a/b@1.log"}, files); err != nil || len(kept) != 1 {
		t.Errorf("%q, %v", kept, err)
	}
}

// few is a message of few bytes that are many.
type few struct {
	jetstream.Msg
	header  nats.Header
	payload []byte
}

func (m few) Reply() string        { return "" }
func (m few) Subject() string      { return "logs.0.web1.syslog" }
func (m few) Headers() nats.Header { return m.header }
func (m few) Data() []byte         { return m.payload }

// Memory is bounded by what messages become, not by what they were on the wire.
func TestMessagesWeighWhatTheyUnpackTo(t *testing.T) {
	t.Parallel()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, chunk.MaxLength)
	c := chunk.Chunk{Epoch: 1, Length: uint64(len(zeros)), Checksum: chunk.Sum(zeros), File: "f"}
	r := &Receiver{config: Config{Prefix: "logs"}}
	if r.decompressor, err = chunk.NewDecompressor(); err != nil {
		t.Fatal(err)
	}
	defer r.decompressor.Close()
	d := r.decode("LOGFORWARD_0", 0, few{header: c.Header(chunk.Zstd), payload: enc.EncodeAll(zeros, nil)})
	if d.err != nil || d.bytes != len(zeros) {
		t.Errorf("%d bytes, %v", d.bytes, d.err)
	}
}
