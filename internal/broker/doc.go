// Package broker holds everything that speaks NATS: connections, the publishing
// half of the stream transport, the streams and buckets, and a server that can
// be embedded.
//
// # What it guarantees
//
// Nothing here promises that a message survives. An [Ack] says that JetStream
// took the message, which is what the words "stored" mean elsewhere; a broker
// may still lose it. What is promised is that the caller always learns one
// outcome of each publish, exactly once, and that an outcome that nobody can
// know is called so ([OutcomeUnknown]) and is never reported as a failure that
// surely left nothing behind.
//
// # Connections
//
// [Connect] turns off the client library's reconnect buffer: a publish while
// disconnected fails at once. A buffer would be flushed after the reconnect,
// behind what had been lost with the old connection, and so make holes.
//
// # Names
//
//	LOGFORWARD_<p>            stream of partition p, subjects <prefix>.<p>.>
//	KV_LOGFORWARD             bucket LOGFORWARD: keys layout, pause
//	KV_LOGFORWARD_POSITIONS   bucket LOGFORWARD_POSITIONS: one record per log
//	KV_LOGFORWARD_LEASES      bucket LOGFORWARD_LEASES: who owns which partition
//
// Each of these begins its sequence at the microseconds since 1970, so that a
// sequence or a revision never comes back after the broker was wiped.
package broker
