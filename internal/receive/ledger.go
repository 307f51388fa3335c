package receive

import (
	"encoding/json"
	"fmt"
	"time"

	"logforward/internal/chunk"
)

// Events of a ledger.
const (
	EventRange  = "range"  // from here on, positions lie in File at Offset
	EventEnd    = "end"    // the range before ends in File, at Offset: another epoch or another range goes on there; without File: the epoch ended, wherever that is
	EventClose  = "close"  // a file is complete, and has its final name
	EventGap    = "gap"    // a range is lost
	EventAnew   = "anew"   // the running digest begins anew: the node lost bytes that it had sent, and that are here
	EventFork   = "fork"   // a node sent other bytes for positions that are here already
	EventEpoch  = "epoch"  // a new epoch began
	EventRepair = "repair" // the node knew more to be central than this receiver did
	EventDamage = "damage" // a central file was found missing, or shorter than what was committed to it
	EventExpire = "expire" // retention deleted a file
	EventSeal   = "seal"   // the node signed for the bytes of a range; they may lie in several files, and in other receivers'
	EventBack   = "back"   // a range that was set aside, and of which there was no other copy, is the whole of File
)

// Entry is one line of a log's ledger: <output>/<identity>/<log>@ledger.jsonl, one JSON
// object a line, in the order of things. Fields that an event doesn't need are absent; readers ignore
// fields and events that they don't know.
type Entry struct {
	Time        time.Time `json:"time"`                  // when the receiver wrote it
	Event       string    `json:"event"`                 // range, end, close, gap, anew, fork, epoch, repair, damage, expire, seal, back, kept or dropped
	Epoch       uint64    `json:"epoch,omitempty"`       // of the positions
	Predecessor uint64    `json:"predecessor,omitempty"` // epoch that this one continues
	From        uint64    `json:"from"`                  // position of the first byte
	To          uint64    `json:"to,omitempty"`          // position behind the last
	File        string    `json:"file,omitempty"`        // path below the output directory, as it was then named
	Name        string    `json:"name,omitempty"`        // close: final name, without a compression's ending
	Offset      int64     `json:"offset,omitempty"`      // of From in File, in bytes
	Size        int64     `json:"size,omitempty"`        // of the file, in bytes
	Cause       string    `json:"cause,omitempty"`       // why, for a person
	By          string    `json:"by,omitempty"`          // kept, dropped: who has decided so
	// Digest is the epoch's running digest, as the node computed it: before From of a range, of a gap and where it begins anew, before To at an end
	// and a close. [Verify] computes it once more. Older ledgers have none.
	Digest *chunk.Digest `json:"digest,omitempty"`
	// After is the running digest before To of what was put back, whose Digest is the one before From.
	After *chunk.Digest `json:"after,omitempty"`
	Bytes *int64        `json:"bytes,omitempty"` // gap: lost bytes as far as known; -1: unknown
	Exact bool          `json:"exact,omitempty"` // gap: Bytes is no estimate
	Found *time.Time    `json:"found,omitempty"` // gap: when the node found it
	Path  string        `json:"path,omitempty"`  // gap: the node's file
	// Seal is a seal's text ([chunk.Seal.String]), and the only word about it: From and To are there to be seen.
	Seal string `json:"seal,omitempty"`
}

// line is the entry as it stands in the file.
func (e *Entry) line() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("ledger entry: %w", err)
	}
	return append(b, '\n'), nil
}
