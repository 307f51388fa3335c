// Package chunk is the wire format of logforward: what travels between a node
// and a receiver, byte for byte. This comment is its specification.
//
// # Subject
//
// A chunk is one NATS message on the subject
//
//	<prefix>.<partition>.<identity>.<log>
//
// prefix is one or more plain NATS tokens, "logs" by default. partition is a
// decimal number: the FNV-1a 32 hash of the identity's bytes modulo the layout's
// partitions. identity and log are tokens: the bytes A-Z a-z 0-9 _ - stand for
// themselves, every other byte, the dot too, is "=XX" in upper-case hex. A
// token decodes in one way only: "=41" (a plain A) is refused, and so is a name
// that is empty, ".", "..", or holds "/" or NUL. Names are bytes, not text. The
// token of an identity or log is at most [MaxToken] bytes long.
//
// Identity and log are taken from the subject alone, because that is what the
// broker's permissions guard.
//
// # Headers
//
// Each header stands exactly once; numbers are decimal without sign or leading
// zeros; hex is lower case and of fixed width.
//
//	header       value
//	Lf-Epoch     epoch and its predecessor, "1763848236000000 0"; 0: no predecessor
//	Lf-Position  position of the first byte
//	Lf-Length    uncompressed length; for a gap: the positions that it takes
//	Lf-Checksum  CRC-64/NVME of the uncompressed bytes, 16 hex digits
//	Lf-Digest    running digest of the epoch before this chunk, 16 hex digits
//	Lf-Round     how often the forwarder has gone back in this log
//	Lf-File      id of the generation, printable ASCII without spaces, at most 128 bytes
//	Lf-Offset    offset of the first byte in that generation
//	Lf-Encoding  optional: "s2" (one block) or "zstd". Absent: the payload is plain
//	Lf-Gap       optional: this range is lost; JSON of [Gap]. The payload is empty
//	Lf-Seal      optional: the node's signature under the bytes up to here; see [Seal.String]
//
// Headers that this version doesn't know are ignored. The payload is the raw
// bytes, compressed as Lf-Encoding says. A chunk carries at least one byte, a gap
// takes at least one position, so that the loss of either leaves a hole.
//
// # Digest
//
// The running digest at position p is the CRC-64/NVME of the epoch's bytes
// before p; at position 0 it is 0. A CRC was chosen because it doesn't depend on where
// chunks end, its state is the value itself, and the digest behind a chunk
// follows from the digest before it and the chunk's checksum without another look at
// the bytes ([Digest.Extend]). It is there to see forks, not forgers.
//
// A gap ends what the digest can say: behind a gap that ends at q it is the CRC
// of q as eight big-endian bytes ([AfterGap]), whatever stood before and wherever
// the gap began. So the digest still fits where a receiver already had the first
// bytes of a range that the node must declare lost.
//
// # Sync and control
//
// A node asks with [Hello] on <prefix>.sync.<identity>.hello and gets [Answer] on
// its reply inbox. Receivers tell a node with [Control] messages on a subject
// that both sides compute, on plain NATS <prefix>.control.<identity>. All three are JSON.
//
// Others than receivers may be able to publish there: on Choria every server may, to any reply subject. So a control message has the header
//
//	Lf-Mac  HMAC-SHA256 of the message's bytes with the Key of the node's hello as it stands there, 64 hex digits
//
// and a node obeys no other. One without it, or with a wrong one, is a hint that makes the node say hello, after some time and not often: whoever has not
// heard the node's hello yet, such as a receiver that has just started or an older one, is understood all the same, by what a receiver answers.
package chunk
