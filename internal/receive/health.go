package receive

import "fmt"

// Health gives the reasons why this receiver doesn't do its work now; none: it does.
func (r *Receiver) Health() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []string
	switch {
	case r.link == nil:
		reasons = append(reasons, "not connected to the broker")
	case !r.serving && r.note != nil:
		reasons = append(reasons, r.note.Error())
	case r.sharing.twin != nil:
		reasons = append(reasons, r.sharing.twin.Error())
	case r.sharing.trouble != nil:
		reasons = append(reasons, r.sharing.trouble.Error())
	case r.lacking != nil:
		reasons = append(reasons, r.lacking.Error())
	case !r.serving || !r.complete:
		reasons = append(reasons, "not ready yet")
	}
	if r.hang != nil {
		reasons = append(reasons, r.hang.Error())
	}
	for n := range r.partitions {
		for _, err := range []error{r.terms[n], r.stalls[n]} {
			if err != nil {
				reasons = append(reasons, fmt.Sprintf("partition %d: %s", n, err))
			}
		}
	}
	return reasons
}
