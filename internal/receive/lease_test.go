package receive

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"logforward/internal/broker"
)

// view is a bucket that several tables read.
type view struct {
	revision uint64
	tables   map[string]*table
}

func newView(names ...string) *view {
	v := &view{tables: make(map[string]*table)}
	for _, name := range names {
		v.tables[name] = newTable(name, 5)
	}
	return v
}

func (v *view) put(key string, value any) {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	v.revision++
	for _, t := range v.tables {
		t.observe(broker.Record{Key: key, Value: b, Revision: v.revision})
	}
}

func (v *view) beat(name string)         { v.put(beatKey(name), Beat{Name: name, Layout: "L"}) }
func (v *view) lease(n int, name string) { v.put(leaseKey(n), Lease{Owner: name, Layout: "L"}) }

// settle lets all who live take what is theirs, and gives the leases.
func (v *view) settle(t *testing.T, partitions int, alive []string) map[int]string {
	t.Helper()
	for range 3 { // one round gives back, the next takes
		for _, name := range alive {
			x := v.tables[name]
			for n := range partitions {
				planned := x.planned(n, partitions, "L")
				if owner := x.leases[n].Owner; owner == name && planned != name && planned != "" {
					v.put(leaseKey(n), Lease{Layout: "L"})
				} else if planned == name && x.free(n, "L") && owner != name {
					v.lease(n, name)
				}
			}
		}
	}
	owners := make(map[int]string)
	for n := range partitions {
		owners[n] = v.tables[alive[0]].leases[n].Owner
		for _, name := range alive {
			if p := v.tables[name].planned(n, partitions, "L"); p != owners[n] {
				t.Fatalf("%s plans partition %d for %q, its owner is %q", name, n, p, owners[n])
			}
		}
	}
	return owners
}

// Whatever joins, leaves or dies: all see the same plan, the shares differ by one at most, and only what must move does.
func TestPlanIsBalancedAndMovesLittle(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(testSeed(t), 3))
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprintf("receiver-%d", i))
	}
	for range manyOf(t, 30) {
		v := newView(names...)
		partitions := 1 + rng.IntN(40)
		alive := []string{names[0]}
		v.beat(names[0])
		before := v.settle(t, partitions, alive)
		for range 12 {
			var gone, come string
			if rng.IntN(2) == 0 && len(alive) > 1 {
				i := rng.IntN(len(alive))
				gone = alive[i]
				alive = slices.Delete(slices.Clone(alive), i, i+1)
				if rng.IntN(2) == 0 {
					v.put(beatKey(gone), Beat{Name: gone, Left: true})
				}
			} else if i := rng.IntN(len(names)); !slices.Contains(alive, names[i]) {
				come = names[i]
				alive = append(slices.Clone(alive), come)
			}
			for range 6 { // each counts the others' silence in its own beats
				for _, name := range alive {
					v.beat(name)
				}
			}
			after := v.settle(t, partitions, alive)
			counts := make(map[string]int)
			for _, name := range after {
				counts[name]++
			}
			for _, name := range alive {
				if c := counts[name]; c < partitions/len(alive) || c > (partitions+len(alive)-1)/len(alive) {
					t.Fatalf("%d partitions, %d receivers, %s has %d", partitions, len(alive), name, c)
				}
			}
			for n, name := range after {
				if before[n] != name && before[n] != gone && name != come {
					t.Fatalf("partition %d moved from %s to %s, though %q went and %q came", n, before[n], name, gone, come)
				}
			}
			before = after
		}
	}
}

// Silence is counted in the observer's own heartbeats: who was stopped or cut off itself takes nobody for dead.
func TestDeadIsWhoseHeartIsMissedByOnesOwn(t *testing.T) {
	t.Parallel()
	v := newView("a", "b")
	v.beat("a")
	v.beat("b")
	a := v.tables["a"]
	for range 4 {
		v.beat("a")
		if !a.alive("b") {
			t.Fatal("dead too soon")
		}
	}
	v.beat("b")
	for range 4 {
		v.beat("a")
	}
	if !a.alive("b") {
		t.Fatal("its heart has beaten meanwhile")
	}
	v.beat("a")
	if a.alive("b") {
		t.Error("b is alive after five beats without one of its own")
	}
	// Reading the bucket anew takes nothing back, and gives nobody time who hasn't moved.
	fresh := newTable("a", 5)
	for _, key := range []string{"a", "b"} {
		b := a.beats[key]
		value, err := json.Marshal(b.Beat)
		if err != nil {
			t.Fatal(err)
		}
		fresh.observe(broker.Record{Key: beatKey(key), Value: value, Revision: b.revision})
	}
	if fresh.inherit(a); fresh.alive("b") {
		t.Error("alive because the bucket was read anew")
	}
	v.beat("b")
	if !a.alive("b") {
		t.Error("dead though its heart beats again")
	}
	v.lease(0, "b")
	v.put(beatKey("b"), Beat{Name: "b", Layout: "L", Hung: true})
	if a.alive("b") || !a.free(0, "L") || a.plan(1, "L")[0] != "a" {
		t.Error("b's partitions aren't free though it says that its disk hangs")
	}
	if p := v.tables["b"].plan(1, "L"); p[0] != "a" {
		t.Errorf("b plans %v while its disk hangs", p)
	}
}

// Nobody works by a new layout while somebody still works by the old one, and a lease of a layout that its owner has left holds nobody up.
func TestLayoutsDontOverlap(t *testing.T) {
	t.Parallel()
	v := newView("a", "b")
	a := v.tables["a"]
	v.put(beatKey("a"), Beat{Name: "a", Layout: "new"})
	v.put(beatKey("b"), Beat{Name: "b", Layout: "old"})
	v.put(leaseKey(1), Lease{Owner: "b", Layout: "old"})
	if a.free(0, "new") || a.free(1, "new") {
		t.Error("free while b works by the old layout")
	}
	v.put(beatKey("b"), Beat{Name: "b", Layout: "new"})
	if !a.free(0, "new") || !a.free(1, "new") {
		t.Error("not free though b has left the old layout")
	}
	v.put(leaseKey(1), Lease{Owner: "b", Layout: "new"})
	if !a.free(0, "new") || a.free(1, "new") {
		t.Error("b's own lease isn't heeded, or more than that is")
	}
}

// Who is drained, leaving or forgotten takes nothing; with nobody left the plan is empty.
func TestWhoIsDrainedGetsNothing(t *testing.T) {
	t.Parallel()
	v := newView("a", "b")
	a := v.tables["a"]
	v.beat("a")
	v.beat("b")
	v.lease(0, "b")
	v.lease(1, "a")
	v.put(drainKey("b"), Drain{By: "ops", Since: a.beats["a"].Started.AddDate(1, 0, 0)})
	if p := a.plan(2, "L"); p[0] != "a" || p[1] != "a" {
		t.Errorf("plan %v", p)
	}
	if a.free(0, "L") {
		t.Error("b's partition is free before it is given back")
	}
	v.put(drainKey("b"), Drain{By: "ops"})
	if p := a.plan(2, "L"); p[0] != "b" {
		t.Errorf("plan %v after the drain", p)
	}
	v.put(beatKey("a"), Beat{Name: "a", Layout: "L", Leaving: true})
	v.put(beatKey("b"), Beat{Name: "b", Layout: "L", Forgotten: true})
	if p := a.plan(2, "L"); len(p) > 0 {
		t.Errorf("plan %v of nobody", p)
	}
}
