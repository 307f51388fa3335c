// Package keeper keeps a node's daemon running: one look at it, and what has to be done about what is seen.
//
// # What it guarantees
//
// One run is short, bounded, and may be repeated at any time: a daemon that works is left alone. There are never
// two daemons, for each takes the lock on its state directory; the keeper finds a daemon by that lock, as the
// kernel tells who holds it, and signals nobody else. A daemon is replaced only after several looks at which it
// didn't answer, more of them while it uses the processor, and it is asked to end before it is killed.
//
// A daemon that doesn't stay is started again after growing waits, and after some attempts not at all: then
// the keeper says that it has failed, and why, until a definition, the configuration or the program changes, an
// operator asks for it, or, since nobody may be there to ask, a long time has passed.
//
// What the keeper remembers between runs lies in a directory that only its own user may write to. Lost, it costs
// no more than counting anew.
//
// # The record
//
//	record.json   what is remembered, replaced whole
//	lock          held by the run that is at work
//	daemon.log    what a daemon that was started here says; cut when it is large
package keeper
