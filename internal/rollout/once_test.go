package rollout

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One of many that come at once is taken, and another when it has expired; a file that can't be read takes none.
func TestARequestIsTakenOnce(t *testing.T) {
	file, now := filepath.Join(t.TempDir(), "lib", "former.requests"), time.Now()
	var taken, refused atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			switch err := Once(file, "one", now.Add(time.Minute), now); {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, ErrTaken):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if taken.Load() != 1 || refused.Load() != 19 {
		t.Errorf("%d taken, %d refused", taken.Load(), refused.Load())
	}
	if err := Once(file, "two", now.Add(time.Minute), now); err != nil {
		t.Error(err)
	}
	if err := Once(file, "one", now.Add(2*time.Minute), now.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte(`{"one":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Once(file, "three", now.Add(time.Minute), now); err == nil {
		t.Error("taken, though nobody knows what was before")
	}
}
