// Package pipe tests the whole data path with the built binary: a writer appends to log
// files and rotates them, a forwarder, a broker and a receiver run as processes of their
// own, faults happen to each of them, and in the end the central files must hold
// exactly the bytes that were written.
//
// Faults come at random moments from a seed that is logged; LOGFORWARD_SEED repeats one,
// LOGFORWARD_CHAOS_SECONDS makes the test longer. LOGFORWARD_SOAK_HOURS runs the soak, which watches for growth.
//
// The benchmarks measure the same processes with the settings that users get, and others in their place; make bench runs them and
// writes docs/performance.md.
package pipe
