//go:build race

package pipe

// raced says that the race detector, which makes everything slow, is on.
const raced = true
