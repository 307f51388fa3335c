//go:build race

package table

// raced says that the race detector, which makes everything slow, is on: random tests are shorter then.
const raced = true
