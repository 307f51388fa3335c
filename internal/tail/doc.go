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
// between the copy and the truncation. The same holds for late writes to a file
// that was rotated away longer than Config.Linger ago, and for an unseen file
// whose clock says that it is older than the last one that was followed, and for one that was deleted before anybody looked,
// unless numbers in names tell.
// A file that ends in a hole, which its writer fills later, is as long as it is filled.
// Where it is unclear whether a small file (below 64 bytes) is a copy of another it is sent
// again: twice is better than not at all.
//
// Files that all begin with the same header are told from one another by what else is known of them. Where that is nothing, these can't be:
//   - a file of which less than 1 KiB was known is gone after a restart, and a later one that begins alike was rotated away, and compressed or moved to
//     another directory, too: the first one written since is taken for it, so that this one's header isn't sent, if other files of the log are there and
//     none begins so. Where one does, or there is none, it is sent whole, and the other is a Loss, unless it has the very time of change. The same goes for
//     one beside the live file that isn't compressed, and for the live one itself, unless the state and its directory are both seen to be copies: then it
//     was put back with them, if no other file of the log begins so;
//   - a file of which the header alone was known was truncated and begun again with that between two looks, or was cut down to that: it counts as the
//     same one, unless it was down, or shorter, and a copy shows what was in it. What was seen of it and is gone is a Loss;
//   - without times of birth (some network and old file systems), a file that has the inode of one that was deleted while nobody looked, and
//     begins as all that was known of that one: it counts as the same one.
//
// # How a log is driven
//
//	Open(state) → save State
//	Peek → Advance → (NewSegment: save State) → send → … → Release when confirmed
//
// A State that is older than what was sent is harmless as long as each segment that was
// sent is in it: the last segment is open-ended, and after a restart its generation is
// read to its end before any other. If that file can't be found there is a [Loss], and
// [Log.AdvanceTo] lays it over everything that may have been sent.
// A caller that doesn't read (paused, limited) calls [Log.Look] on each Wake instead, so that
// each new file is opened before somebody deletes it.
//
// # Words
//
// A generation is one physical file in a log's life: rotation or truncation
// starts the next. It is named by device, inode and a fingerprint of its first
// bytes, so that a reused inode or a copy isn't taken for it. A segment is a run
// of positions that lie at consecutive offsets of one generation.
//
// Rotation is seen by device and inode, truncation by size and by the 64 bytes
// in front of each read. Files are found again by inode and content under rotated names:
// app.log.1, app.log-20261122, app-2026-11-22.log, app.log.old, and these
// compressed with gzip, zstd, bzip2 or xz, in the directory of the path, of its link's target, of
// where the file was last, where files of the log were seen to be moved, and where Config.Olddirs says. A file of an earlier run is looked
// for in the directories directly below, too; the names there are taken for the log's once one file was recognised.
//
// # Who may call what
//
// A Log belongs to one goroutine; only [Log.Wake] may be used by others. A
// [Watcher] and a [Budget] are shared by all logs of a node.
package tail
