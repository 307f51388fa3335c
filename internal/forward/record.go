package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"

	bolt "go.etcd.io/bbolt"
)

// A value in the state, so that half a write or a flipped bit is seen:
//
//	lf1 <CRC-64/NVME of the rest, 16 hex digits> <value>
const sealMark = "lf1 "

func seal(value []byte) []byte {
	b := make([]byte, 0, len(sealMark)+17+len(value))
	b = append(b, sealMark...)
	b = append(b, chunk.Sum(value).String()...)
	b = append(b, ' ')
	return append(b, value...)
}

func unseal(raw []byte) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(raw), sealMark)
	if !ok || len(rest) < 17 || rest[16] != ' ' {
		return nil, fmt.Errorf("%w: %d bytes without its frame", errCorrupt, len(raw))
	}
	sum, err := chunk.ParseDigest(rest[:16])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	value := []byte(rest[17:])
	if got := chunk.Sum(value); got != sum {
		return nil, fmt.Errorf("%w: checksum %s, it says %s", errCorrupt, got, sum)
	}
	return value, nil
}

// record is a checkpoint: all that a forwarder must know to go on after a restart.
// There is one for each destination and log.
type record struct {
	Log         string        `json:"log"`
	Destination string        `json:"destination"`
	Path        string        `json:"path"`
	Epoch       uint64        `json:"epoch"` // 0: not begun, the centre was not heard yet
	Predecessor uint64        `json:"predecessor,omitempty"`
	Reserved    uint64        `json:"reserved"`       // no position from here on was ever published
	Confirmed   uint64        `json:"confirmed"`      // and Tail begins here
	Digest      chunk.Digest  `json:"digest"`         // running digest at Confirmed
	Weak        bool          `json:"weak,omitempty"` // Confirmed is the broker's acknowledgement, not a receiver's word
	Round       uint64        `json:"round"`
	Known       uint64        `json:"known,omitempty"` // greatest epoch that the centre was seen to know
	Layout      *chunk.Layout `json:"layout,omitempty"`
	Moved       bool          `json:"moved,omitempty"`   // begun at another destination: the centre's place says nothing about the file
	Drained     bool          `json:"drained,omitempty"` // the log has left this destination, with all that was sent confirmed
	Seal        *sealing      `json:"seal,omitempty"`    // nil: the log isn't sealed
	Tail        tail.State    `json:"tail"`
	Saved       time.Time     `json:"saved"`
}

func (r *record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint of %s: %w", r.Log, err)
	}
	return seal(b), nil
}

// decodeRecord takes what encode wrote. Every error wraps errCorrupt.
func decodeRecord(raw []byte) (*record, error) {
	b, err := unseal(raw)
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return r, nil
}

func (r *record) check() error {
	switch {
	case r.Epoch > chunk.MaxPosition || r.Epoch > 0 && r.Predecessor >= r.Epoch:
		return fmt.Errorf("epoch %d after %d can't be", r.Epoch, r.Predecessor)
	case r.Confirmed > r.Reserved || r.Reserved > chunk.MaxPosition:
		return fmt.Errorf("confirmed %d and reserved %d can't be", r.Confirmed, r.Reserved)
	case r.Confirmed != r.Tail.Released:
		return fmt.Errorf("confirmed %d, but the file's state begins at %d", r.Confirmed, r.Tail.Released)
	case r.Known > chunk.MaxPosition:
		return fmt.Errorf("known epoch %d can't be", r.Known)
	case r.Layout != nil && (r.Layout.Prefix == "" || r.Layout.Partitions < 1 || r.Layout.Partitions > 1<<16):
		return fmt.Errorf("layout %q with prefix %q and %d partitions can't be", r.Layout.ID, r.Layout.Prefix, r.Layout.Partitions)
	case r.Log == "": // of a name that isn't text more can't be said
		return errors.New("it names no log")
	}
	return nil
}

// text is a name as JSON gives it back. Names are bytes, and a glob's come from file names: what isn't UTF-8 in them is lost there.
func text(name string) string {
	return strings.Map(func(r rune) rune { return r }, name)
}

func recordKey(destination, log string) string { return destination + "\x00" + log }

// checkpoint gives the record of a log at a destination; nil: there is none. A corrupt one
// is set aside and counts as none.
func (s *State) checkpoint(destination, log string) (*record, error) {
	var raw []byte
	key := recordKey(destination, log)
	if err := s.view(func(tx *bolt.Tx) error { raw = get(tx, bucketCheckpoints, key); return nil }); err != nil {
		return nil, fmt.Errorf("state: checkpoint of %s: %w", log, err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	r, err := decodeRecord(raw)
	if err == nil && (r.Log != text(log) || r.Destination != text(destination)) {
		err = fmt.Errorf("%w: it belongs to %s at %s", errCorrupt, r.Log, r.Destination)
	}
	if err != nil {
		return nil, s.spoil(bucketCheckpoints, key, raw, err)
	}
	return r, nil
}

// active is the destination that a log was last sent to; empty: none.
func (s *State) active(log string) (string, error) {
	b, err := s.read(bucketActive, log)
	return string(b), err
}

// write stores checkpoints in one transaction, each as its log's active one.
func (s *State) write(records map[string][]byte, active map[string]string) error {
	err := s.update(func(tx *bolt.Tx) error {
		for key, raw := range records {
			if err := put(tx, bucketCheckpoints, key, raw); err != nil {
				return err
			}
		}
		for log, destination := range active {
			sealed := seal([]byte(destination))
			if string(get(tx, bucketActive, log)) == string(sealed) {
				continue
			}
			if err := put(tx, bucketActive, log, sealed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: write %d checkpoints: %w", len(records), err)
	}
	return nil
}
