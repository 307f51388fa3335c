package broker

import "time"

// CheckWatchEvery shortens the interval at which Watch looks whether it has
// fallen behind.
func (r *Records) CheckWatchEvery(d time.Duration) { r.check = d }
