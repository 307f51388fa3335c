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

// Quiet is how many messages wait for another one's answer.
func (p *Publisher) Quiet() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tokens := range p.quiet {
		n += len(tokens)
	}
	return n
}
