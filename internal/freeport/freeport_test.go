package freeport

import (
	"net"
	"testing"
)

// TestPort: each port is free, below what the system gives by itself, and given once.
func TestPort(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		if port < first || port >= lowest() || seen[port] {
			t.Fatalf("port %d, after %v", port, seen)
		}
		seen[port] = true
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
