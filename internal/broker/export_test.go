package broker

import "time"

// CheckWatchEvery shortens the interval at which Watch looks whether it has
// fallen behind.
func (r *Records) CheckWatchEvery(d time.Duration) { r.check = d }

// Resting tells whether it looks at the time no more until something is published.
func (p *Publisher) Resting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resting
}
