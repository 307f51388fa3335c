// Package choria lets a process connect to a Choria broker with a Choria identity: that of the node's
// own Choria Server, or a client's. It reads Choria's configuration files itself, so that nothing of
// Choria's framework is loaded.
//
// Two ways to be known are supported, as plugin.security.provider says:
//
//	choria        protocol v2: a JWT, and the ed25519 seed whose public key is in it
//	puppet, file  classic: a certificate of the organization's authority (mutual TLS)
//
// Unlike Choria's own clients, which go on without verifying where no authority is configured,
// a connection from here is always verified.
//
// A node needs two rights on a broker with protocol v2: to publish below its own subjects, which its
// JWT grants with --subjects '<prefix>.*.<identity>.>', and to hear its private reply subjects
// <collective>.reply.<md5 of identity>.>, which every server has. Control messages and the answers to
// hellos go there; a receiver computes the subject from the identity, and answers nowhere else.
package choria
