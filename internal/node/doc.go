// Package node decides what a node forwards, and tells how that goes.
//
// # What it guarantees
//
// The set of logs that the engine works is a function of three things: the files
// of the definitions directory, what operators started and overrode, and the files that
// globs match. It is computed anew whenever one of them changes, and at least
// once a second, so that no missed notification lasts.
//
// A definition that can't be read or understood never stops what ran before: its last good form stays
// in force, and the fault is reported. Nor does one definition's fault touch another.
//
// What operators wish is on disk before they are told that it is done. It
// survives restarts and ends by itself at its time.
//
// # Words
//
// A definition says what is to be forwarded: a file of configuration management
// (managed), or an operator's start (a wish). An override is an operator's word above
// a definition: stop, drain, pause, or resume (the exception from a pause of all).
// A glob's definition makes one log per file, its children.
package node
