// Package agent is the Choria external agent: Choria Server runs it once for each request, with the
// request and the place of the reply as files (protocol io.choria.mcorpc.external.v1).
//
// It holds no state and decides nothing. It checks a request against the agent's description, asks the
// node's daemon on its socket for the caller that Choria names, and says what the daemon said, in less
// than half of the time after which Choria Server would drop the request without a reply. Where no daemon
// runs, changes are recorded, for the daemon to take when it runs; reads say that nothing runs.
package agent
