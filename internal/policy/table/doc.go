// Package table reads the operators' table, operators.yaml: who may do what with which logs. It renders
// the table into the Rego documents that Choria Server and the node decide by, and decides by it directly,
// which explains a decision and checks the rendered documents.
//
// Roles allow, and what no role allows is denied. Deny rules stand above all roles. The two treat what a
// request doesn't say differently, each the safe way: a role's condition must be known to hold, a deny
// rule's must be known not to.
//
// What a request says only by a log's name, its path and destination, Choria Server can't know. There it
// doesn't count, for the node fills it in and decides again; see [Table.Decide] for the names.
package table
