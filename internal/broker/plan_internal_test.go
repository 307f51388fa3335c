package broker

import "testing"

// Only what changes the subjects of nodes makes a new layout.
func TestLayoutID(t *testing.T) {
	has := Layout{ID: "one", Prefix: "logs", Partitions: 4, Replicas: 1}
	for _, c := range []struct {
		name    string
		has     *Layout
		w       Wanted
		changes int
		same    bool
	}{
		{"the same", &has, Wanted{Prefix: "logs", Partitions: 4, Replicas: 1}, 0, true},
		{"replicas", &has, Wanted{Prefix: "logs", Partitions: 4, Replicas: 3}, 1, true},
		{"partitions", &has, Wanted{Prefix: "logs", Partitions: 5, Replicas: 1}, 1, false},
		{"prefix", &has, Wanted{Prefix: "other", Partitions: 4, Replicas: 1}, 1, false},
		{"none", nil, Wanted{Prefix: "logs", Partitions: 4, Replicas: 1}, 1, false},
		{"without id", &Layout{Prefix: "logs", Partitions: 4, Replicas: 1}, Wanted{Prefix: "logs", Partitions: 4, Replicas: 1}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := planLayout(c.has, 7, c.w)
			if len(plan) != c.changes {
				t.Fatalf("plan is %v", plan)
			}
			if c.changes == 0 {
				return
			}
			to := plan[0].step.layout
			if (to.ID == "one") != c.same || to.ID == "" || to.Created.IsZero() == !c.same {
				t.Errorf("layout becomes %+v", to)
			}
			if plan[0].step.revision != 7 {
				t.Errorf("expects revision %d", plan[0].step.revision)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"2.9.25": false, "2.10.0": true, "2.10.20": true, "2.15.2": true,
		"3.0.0": true, "1.99.0": false, "v2.9.0": false, "2.12.0-beta": true, "custom": true} {
		if got := atLeast(version, 2, 10); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}
