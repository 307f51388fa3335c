// Package fleet has tests of a whole fleet: real Choria, real logforward processes.
package fleet
