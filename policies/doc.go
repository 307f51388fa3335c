// Package policies holds the operators' table as an example, its JSON schema, and the Rego documents that it is
// rendered into. They are to be changed: names of callers, paths and destinations are a site's own.
package policies

import "embed"

// Files are the documents.
//
//go:embed *.rego operators.yaml operators.schema.json
var Files embed.FS
