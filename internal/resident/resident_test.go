package resident

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestOnlyWhatTheFileHoldsIsDropped(t *testing.T) {
	const program = "/usr/bin/logforward"
	for line, want := range map[string]bool{
		"00400000-0177a000 r-xp 00000000 fe:00 17 /usr/bin/logforward":           true,
		"0177a000-02fab000 r--p 0137a000 fe:00 17 /usr/bin/logforward":           true,
		"02fab000-03103000 rw-p 02bab000 fe:00 17 /usr/bin/logforward":           false,
		"0177a000-02fab000 r--s 0137a000 fe:00 17 /usr/bin/logforward":           false,
		"0177a000-02fab000 -w-p 0137a000 fe:00 17 /usr/bin/logforward":           false,
		"0177a000-02fab000 r--p 0137a000 fe:00 17 /usr/lib/libc.so.6":            false,
		"0177a000-02fab000 r--p 0137a000 fe:00 17 /usr/bin/logforward (deleted)": false,
		"0177a000-02fab000 r--p 00000000 00:00 0":                                false,
		"x177a000-02fab000 r--p 0137a000 fe:00 17 /usr/bin/logforward":           false,
		"02fab000-0177a000 r--p 0137a000 fe:00 17 /usr/bin/logforward":           false,
	} {
		for anonymous, clean := range map[string]bool{"0": true, "4": false} {
			smaps := line + "\nRss: 1984 kB\nAnonymous: " + anonymous + " kB\nVmFlags: rd ex mr\n"
			if got := len(droppable([]byte(smaps), program)); got != 0 != (want && clean) {
				t.Errorf("%s, %s kB written to: %d mappings", line, anonymous, got)
			}
		}
	}
	two := "00400000-00401000 r-xp 0 fe:00 17 /p\nAnonymous: 4 kB\n00401000-00402000 r--p 0 fe:00 17 /p\nAnonymous: 0 kB\n00402000-00403000 r--p 0 fe:00 17 /p\n"
	if got, want := droppable([]byte(two), "/p"), []mapping{{0x401000, 0x402000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

var written = "as linked"

func TestDropUnmapsAndChangesNothing(t *testing.T) {
	written = strings.Repeat("x", 3)
	_, before, err := amounts()
	if err != nil {
		t.Fatal(err)
	}
	if err := Drop(); err != nil {
		t.Fatal(err)
	}
	_, after, err := amounts()
	if err != nil {
		t.Fatal(err)
	}
	if after >= before {
		t.Errorf("%d bytes of files were resident, and %d are", before, after)
	}
	if written != "xxx" || fmt.Sprint(os.Getpid()) == "" {
		t.Errorf("%q", written)
	}
}

func TestKeepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Keep(ctx, slog.New(slog.DiscardHandler))
}

// Where the process' own memory hasn't grown its heap is left alone; where it has, what isn't used any more goes back.
func TestOnlyWhatHasGrownIsCollected(t *testing.T) {
	var k keep
	look := func(what string, most, want int) {
		t.Helper()
		if err := k.look(most); err != nil {
			t.Fatal(err)
		}
		if k.collections != want {
			t.Fatalf("%s: %d collections, want %d", what, k.collections, want)
		}
	}
	look("few files are resident", 1<<40, 0)
	look("the first look", 0, 1)
	k.own += 4 * grown // whatever the test itself has taken meanwhile
	look("as it was", 0, 1)
	k.own -= 4 * grown
	much := make([]byte, 64*grown)
	for i := range much {
		much[i] = 1
	}
	look("much more", 0, 2)
	if much[len(much)-1] != 1 {
		t.Error("memory that is in use changed")
	}
}
