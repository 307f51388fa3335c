package awake

import (
	"testing"
	"time"
)

func TestAWatchIsNeverAhead(t *testing.T) {
	began := time.Now()
	w := Begin(t)
	for w.Took() < 50*time.Millisecond {
		time.Sleep(step)
	}
	if took, passed := w.Took(), time.Since(began); took > passed {
		t.Errorf("%s in %s", took, passed)
	}
}
