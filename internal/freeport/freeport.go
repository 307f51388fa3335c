// Package freeport finds ports for the servers of tests.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

// first is the lowest port that Port gives.
const first = 10000

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Port is a port of 127.0.0.1 on which a server may listen later, and again after a restart. It lies below those that the system gives
// to listeners on port 0 and to the near ends of connections, which would take it while nobody listens.
func Port() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	end := lowest()
	if end <= first {
		return 0, fmt.Errorf("freeport: the system takes ports from %d on for itself; want more than %d", end, first)
	}
	var last error
	for range 1000 {
		port := first + rand.IntN(end-first)
		if given[port] {
			continue
		}
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			last = err
			continue
		}
		given[port] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("freeport: no free port: %w", last)
}

// Address is Port as host and port.
func Address() (string, error) {
	port, err := Port()
	return address(port), err
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// lowest is the lowest port that the system gives by itself: see ip(7), ip_local_port_range.
func lowest() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 32768
	}
	var low, high int
	if _, err := fmt.Sscan(string(b), &low, &high); err != nil {
		return 32768
	}
	return low
}
