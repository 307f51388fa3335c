package broker_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/nats-io/nats-server/v2/server/pse"

	"logforward/internal/broker"
)

// TestDontSample fails where the library has changed, so that its samples would go on. It runs in a process of its own, for there is no way back.
func TestDontSample(t *testing.T) {
	if os.Getenv("LOGFORWARD_DONT_SAMPLE") == "" {
		c := exec.Command(os.Args[0], "-test.run", "^TestDontSample$")
		c.Env = append(os.Environ(), "LOGFORWARD_DONT_SAMPLE=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		return
	}
	var cpu float64
	var resident, virtual int64
	if err := pse.ProcUsage(&cpu, &resident, &virtual); err != nil {
		t.Fatal(err)
	}
	broker.DontSample()
	if err := pse.ProcUsage(&cpu, &resident, &virtual); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file with the process's CPU can still be read: %v", err)
	}
}
