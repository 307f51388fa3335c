// Package site runs a whole fleet on one machine, below one directory: a real Choria broker with
// streams, Choria servers with the logforward agent, clients, logforward's node daemons and receivers.
// Each is a process of its own, on loopback, as it would be on a machine of its own.
//
//	<directory>/
//	  authority/            the organization: issuer's key, certificate authority
//	  broker/               configuration, log, streams
//	  clients/<name>/       configuration, credentials, the agent's DDL
//	  receivers/<name>/     settings, output, state
//	  log/                  files that every node may forward
//	  <node>/               etc (server.conf, plugin.d, policies), lib (the agent), machine, log, state
//
// Every process dies with the one that started it, however that ends, and [Site.Close] waits for all.
// What they wrote stays below the directory, for whoever looks for the cause of a failure.
package site
