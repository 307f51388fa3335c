//go:build !race

package main

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server/pse"
)

// The library goes on sampling where it can read the process's file, and only there.
func TestForwarderIsNotSampled(t *testing.T) {
	name := sampled
	t.Cleanup(func() { sampled = name })
	var cpu float64
	var resident, virtual int64
	if err := pse.ProcUsage(&cpu, &resident, &virtual); err != nil {
		t.Fatalf("before: %v", err)
	}
	unsampled()
	if err := pse.ProcUsage(&cpu, &resident, &virtual); err == nil {
		t.Fatal("the broker's library still samples a process that has no broker")
	}
}
