// Package receive writes what nodes send into one file per identity and log,
// and tells a node what it may forget.
//
// # What it guarantees
//
// A byte is confirmed to its node only when it lies in a central file that was
// fsynced, a record in the positions bucket says so, and this receiver knows both. Bytes are
// appended by position: in order, each once, or not at all. A range that can't be
// had is in the log's ledger as a gap.
//
// # Commit
//
// The partition's loop judges chunks ([cursor.judge]) and appends. At most every
// CommitInterval or CommitBytes what was appended is committed, while the loop goes on:
//
//	step            what it does                                     a crash right after it
//	sync            data, ledgers, then directories, quarantine      cut back to committed: nobody was told
//	look            is each file still where it was, and whole?      the same
//	prepare         local state: "this is on disk"                   the record decides
//	record          compare-and-set of each log's record             the record covers it: local state is brought up
//	commit          local state: "and the record says so"            nodes learn it at the next sync
//	confirm         tell the nodes                                   the same
//	ack             remove the messages from the stream              redelivered, dropped as duplicates
//
// Every begin of a partition (start, reconnect, failure) goes the same way: delete
// all consumers and make one of a new name, so that no late ack of an older one
// counts; where anything is prepared, raise the record's revision, so that no late
// update lands; take whichever of record and local committed state is further; cut
// files back to what is committed in them.
//
// Below the output no link is followed. A file that somebody else removed, moved or
// shortened is noted in the ledger as damage, and the log goes on in a new one.
package receive
