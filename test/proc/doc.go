// Package proc has what tests of the whole system share: processes that can be killed and frozen, links between
// them that can be cut, muted and slowed, and a server of a NATS cluster.
package proc
