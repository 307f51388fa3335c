//go:build !race

package main

import _ "unsafe" // for the linkname

// sampled is the file from which the broker's library reads each second what the process takes, in every process that it is linked into. There is
// no switch for it.
//
//go:linkname sampled github.com/nats-io/nats-server/v2/server/pse.procStatFile
var sampled string

// unsampled ends that in a process that has no broker, and that it would wake once more each second: the library goes on for as long as it can read
// the file. Only the length changes, so that a reader at the same moment sees one of two valid names. The race detector would object all the same.
func unsampled() { sampled = sampled[:min(1, len(sampled))] }
