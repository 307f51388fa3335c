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
// Few files are synced one by one. Many are by one syncfs, with their names; all partitions that wait for one share the next.
//
// Every begin of a partition (start, takeover, reconnect, failure) goes the same way: delete
// all consumers and make one of a new name, so that no late ack of an older one
// counts; read the records, and where anything is prepared, decide: the record covers it, or nobody has gone beyond what it continues, and the
// commit is carried through by another compare-and-set, or another receiver has its positions, and it is cut and set aside.
// Where local committed state is further than the record, the record is brought forward. Then files are cut back to what is committed in them.
//
// # Several receivers
//
// Receivers divide the partitions by the leases bucket ([Beat], [Lease]): each counts the others' silence in its own heartbeats, in the order in which
// the bucket has both, and all compute the same plan from what they see. A lease says who shall work a partition, for the sake of progress. What keeps two from
// committing the same range is the record's revision, and what keeps a file to one writer is that each receiver only ever writes files that its own state knows.
//
//	when a receiver                    it
//	sees that n isn't its any more     stops without another commit; compare-and-set would refuse it anyway
//	shall hand n over, or ends         commits all it has, then gives the lease back
//	isn't the one to work n            settles: brings the bucket forward where only it knows, cuts its files back, and keeps its ledgers
//	fails in a compare-and-set         ends the term; the lease decides: taken once more, by compare-and-set, or lost
//	sees a hole                        reads the record again, before it asks the node
//	has a chunk of another partition   publishes it to that partition's stream, and acknowledges it here when it is stored there
//	finds that what it cut is proved   puts it back into a closed file of its own, which the record and its ledger then name
//	to be the log's, and nowhere else
//	would call a log unknown           asks the bucket, which must be marked complete: by then each receiver that was ever seen has given what it knows
//
// Below the output no link is followed. A file that somebody else removed, moved or
// shortened is noted in the ledger as damage, and the log goes on in a new one.
//
// # Seals
//
// A chunk may bring its node's seal ([chunk.Seal]). A log has the last one in its mark and its record, and in its ledger (event seal) those that no later one
// can take the place of, and the last when a file is closed. Nothing here depends on them; [VerifySealed] looks whether they fit.
package receive
