package keeper

import "context"

// Why tells why the daemon doesn't run, by what the last run remembered in dir; empty: nothing is known, or it may run.
func Why(dir string) string {
	if ours(dir) != nil {
		return ""
	}
	k := New(Config{Dir: dir})
	switch k.record = k.read(); {
	case k.record.Failed != nil:
		return k.record.Failed.Reason
	case k.record.Attempts > 1:
		return k.lastWords(context.Background())
	}
	return ""
}
