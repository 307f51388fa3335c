package tail

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is looked up is what comparing each name with each would find.
func TestRotatedFromFindsWhatComparingAllDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"app", "a", ".log", ".txt", ".", "-", "_", "1", "20261122", "old", ".gz", ".1", "-2", "é"}
	found := 0
	for range 20000 {
		names := map[string]bool{}
		for range 8 {
			var b strings.Builder
			for range 1 + r.IntN(5) {
				b.WriteString(parts[r.IntN(len(parts))])
			}
			names[b.String()] = true
		}
		sorted := make([]string, 0, len(names))
		for n := range names {
			sorted = append(sorted, n)
		}
		slices.Sort(sorted)
		for _, name := range sorted {
			want := ""
			for _, base := range sorted {
				if isRotation(name, base) && !isRotation(base, name) {
					want = base
					break
				}
			}
			if want != "" {
				found++
			}
			if got := rotatedFrom(name, names); got != want {
				t.Fatalf("%q among %q: %q, want %q", name, sorted, got, want)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d rotated names were tried", found)
	}
}

// BenchmarkExpandTenThousand looks at a directory of many logs, as a node does again and again.
func BenchmarkExpandTenThousand(b *testing.B) {
	dir := b.TempDir()
	for i := range 10000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("service-%05d.log", i)), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	allowed, err := ParseAllowed([]string{dir + "/**"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if follow, refused, err := Expand(dir+"/*.log", allowed); err != nil || len(follow) != 10000 || len(refused) > 0 {
			b.Fatalf("%d files, %d refused, %v", len(follow), len(refused), err)
		}
	}
}
