// Package policies holds Rego documents that decide who may do what with log forwarders; see
// logforward.rego. They are examples to be changed: names of callers, paths and destinations are a site's own.
package policies

import "embed"

// Files are the documents.
//
//go:embed *.rego
var Files embed.FS
