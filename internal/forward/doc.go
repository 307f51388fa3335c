// Package forward sends logs to their destinations: tail → chunk → JetStream.
//
// # What it guarantees
//
// A byte counts as delivered when the receiver has confirmed it, with the same
// running digest that this node has at that position; the broker's
// acknowledgement moves only the point that is gone back to after a failure. A
// position never means two different bytes in one epoch: how far positions may
// have been used (reserved) is on disk before they are used, what goes out a second
// time is compared with the checksum of the first time, and what can't be read
// again unchanged goes out as a gap.
//
// At every moment the positions handed out by tail are the sum of what is
// confirmed, what is not confirmed yet, and gaps ([Accounting]).
//
// # Parts
//
//	Engine     the wanted logs; starts, changes and ends their forwarders
//	forwarder  one log: one goroutine that reads, sends, goes back, begins epochs
//	flight     what one forwarder has handed out and not seen confirmed
//	link       one destination: connection, hello, control, the window in bytes
//	transport  how a chunk gets there; a stream now
//	State      what survives a restart: checkpoints, batched, and others' small values
//	signer     the node's key, where a destination's logs are sealed; see block.go
//
// A forwarder never waits for anything but its mailbox, its file and its timer;
// so a pause or an end takes effect at once, whatever the broker does.
//
// # What is on disk when
//
//	before …                                        the checkpoint holds …
//	a chunk up to position p is published           reserved ≥ p
//	the first chunk of a segment or a loss is       the segment (tail's state)
//	anything of a new epoch is published            the epoch
//	anything goes to another layout's subject       that layout
//
// Everything else (confirmed, offsets) is written at most once a second, and is
// never ahead of the truth: a crash costs chunks sent twice, which the receiver drops.
//
// # Seals
//
// Where a destination is sealed, a chunk carries a seal ([chunk.Seal]) when its block is long enough, or when nothing more is to be read behind it: a log that
// falls silent is sealed to its end. A gap carries the seal of the block that it ends. With confirmed the checkpoint holds the state of the block there, so that
// a restart goes on with it. What goes out again has the same seals, so long as this process sent it; what an earlier one may have sent ends no block, for its blocks may have ended elsewhere, and a later
// seal of the same block covers more. A receiver that has a chunk's bytes already need not look at its seal.
//
// Sent and not sealed remain: what follows the last seal of a block where a new epoch begins, where the log moves to another destination, or where the node's
// state is lost; and what goes out while the key can't be had, until the next seal after that.
package forward
