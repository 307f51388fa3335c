// Package control is how a node's daemon is steered: an API on a unix socket,
// and the client of it.
//
// # The guarantee
//
// Nothing reaches the [Node] that wasn't checked: every request is at most 64 KiB
// of JSON with known fields, every name, path, duration and rate has passed Check,
// the caller is who the kernel says it is (SO_PEERCRED), and Authorize has agreed.
// No request can hold a connection, or a goroutine, longer than its deadlines.
//
// # The API
//
// HTTP/1.1 and JSON; the verbs and the replies are those of the Choria agent.
//
//	POST /v1/start   StartRequest   Reply         forward a path, or lift a stop
//	POST /v1/stop    StopRequest    Reply         stop a log, at once or drained
//	POST /v1/pause   PauseRequest   Reply         hold one log or all; positions stay
//	POST /v1/resume  ResumeRequest  Reply         lift a pause
//	GET  /v1/status  ?log=&history= StatusReply   where each log stands
//	GET  /v1/list                   ListReply     what is to be forwarded, and by whose wish
//	GET  /v1/check                  CheckReply    one verdict, as a monitoring plugin gives it
//	GET  /metrics                   Prometheus
//	GET  /healthz                   Health        200, or 503 with reasons
//
// An error is a JSON [Error] with the HTTP status of its code.
//
// A caller that runs as root may say for whom it asks, in the headers
// Logforward-Caller and Logforward-Request: that is how the Choria agent passes on
// the identity that Choria has verified. From anyone else these are refused.
package control
