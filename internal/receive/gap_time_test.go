package receive

import (
	"fmt"
	"testing"

	"logforward/internal/chunk"
)

// A time that can be read as JSON and not written as JSON is no gap's: a ledger's line that can never be written would hold up the
// whole partition.
func TestTimeOfAGapThatCantBeWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	evil, victim := s.node("evil", "syslog"), s.node("web1", "syslog")
	header := evil.gap(5).Header(chunk.Plain)
	header[chunk.HeaderGap] = []string{`{"cause":"x","bytes":5,"exact":true,"time":"2026-01-01T00:00:00+24:00"}`}
	evil.raw("logs.0.evil.syslog", header, nil)
	victim.send(victim.make("unharmed\n"))
	victim.waitConfirmed()
	victim.same()
	eventually(t, "put them away", func() (bool, string) { n := len(quarantined(t, s)); return n == 1, fmt.Sprint(n) })
}
