package fleet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"logforward/test/fleet/site"
)

// define lets configuration management define a log of a node.
func (f *fleet) define(n *site.Node, log string) {
	f.Helper()
	text := fmt.Sprintf("log: %s\npath: %s\ndestination: central\nstart: beginning\n", log, n.LogFile(log+".log"))
	f.must(os.WriteFile(filepath.Join(n.Definitions(), log+".yaml"), []byte(text), 0o644))
}

// lines are n lines that tell where they come from.
func lines(tag string, from, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%s line %d\n", tag, from+i)
	}
	return b.Bytes()
}

// Nodes connect with their own Choria identity, the receiver and setup with theirs, and nobody with
// more rights than that takes.
func TestLogsArriveOverChoria(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, security, 3)
			f.each(func(n *site.Node) error {
				f.define(n, "app")
				return n.Write("app.log", lines(n.Name, 0, 5000))
			})
			f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 5000)) })
		})
	}
}
