// Package tail turns the files behind one path into one endless sequence of
// bytes with positions.
//
// # What it guarantees
//
// A position never means two different bytes in one life of a [Log], also over
// restarts: [Log.Peek] hands out bytes in position order, [Log.Reread] gives
// the same bytes again or says that it can't, and what is known to be lost is
// handed out as a [Loss] that takes positions of its own, so that it can't be
// overlooked downstream. Nothing is dropped without a Loss.
//
// What can't be seen can't be reported: bytes that were written and truncated
// away between two looks at a file, and with copytruncate the bytes written
// between the copy and the truncation.
//
// # Words
//
// A generation is one physical file in a log's life: rotation or truncation
// starts the next. It is named by device, inode and a fingerprint of its first
// bytes, so that a reused inode or a copy isn't taken for it. A segment is a run
// of positions that lie at consecutive offsets of one generation.
//
// # Who may call what
//
// A Log belongs to one goroutine; only [Log.Wake] may be used by others. A
// [Watcher] and a [Budget] are shared by all logs of a node.
package tail
