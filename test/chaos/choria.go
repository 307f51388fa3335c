package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/choria-io/tokens"

	"logforward/test/fleet/site"
)

// choriaPath is Choria's program; empty: there is none.
var choriaPath string

// choriaProgram takes note of Choria's program, if it is one.
func choriaProgram(path string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		choriaPath = path
	}
}

// choria is a real Choria's broker with streams, and credentials for everybody who comes to it.
type choria struct {
	site      *site.Site
	nodes     []*site.Node
	receivers map[string]string // configuration of each receiver's client, by its name
	streams   string            // configuration of the streams' administrator
}

// newChoria makes authority, tokens and broker; the broker is stopped again.
func newChoria(s *system) (*choria, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := site.Start(ctx, site.Config{Dir: s.path("site"), Security: site.Tokens, Choria: choriaPath, Logforward: s.binary})
	if err != nil {
		return nil, err
	}
	c := &choria{site: st, receivers: map[string]string{}}
	admin, err := st.AddClient("streams", site.ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{StreamsAdmin: true, StreamsUser: true}})
	if err != nil {
		return c, err
	}
	c.streams = admin.Config()
	for _, name := range s.receiverNames() {
		if _, err := st.AddReceiver(name, nil); err != nil {
			return c, err
		}
		c.receivers[name] = filepath.Join(st.Dir, "clients", name, "client.conf")
	}
	for i := range s.topology.nodes {
		n, err := st.AddNode(fmt.Sprintf("web%d", i+1), site.NodeOptions{})
		if err != nil {
			return c, err
		}
		c.nodes = append(c.nodes, n)
	}
	return c, st.Broker.Stop()
}

func (c *choria) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.site.Port)) }

func (c *choria) store() string { return filepath.Join(c.site.Dir, "broker", "streams") }

func (c *choria) command() []string {
	return []string{choriaPath, "broker", "run", "--config", filepath.Join(c.site.Dir, "broker", "broker.conf")}
}

// receiver are settings of a receiver that comes to Choria's broker. Its URL leads through a link, so the certificate's name is said.
func (c *choria) receiver(name string) []string {
	return []string{"choria = " + c.receivers[name], "server_name = localhost"}
}

func (c *choria) node(i int) []string {
	return []string{"destination.central.choria = " + c.nodes[i].ServerConfig(), "destination.central.server_name = localhost"}
}

func choriaFaults() []*fault {
	t := single
	t.choria = true
	either := func(list ...func(s *system, r *rand.Rand) effect) func(s *system, r *rand.Rand) effect {
		return func(s *system, r *rand.Rand) effect { return list[r.IntN(len(list))](s, r) }
	}
	return []*fault{
		{name: "choria-kill", group: "choria", about: "with Choria's own broker and tokens: kill -9 of broker, receiver or a node", topology: t, rounds: 4,
			do: either(end("broker", syscall.SIGKILL, 0, 800), end("receiver", syscall.SIGKILL, 0, 800), end("node", syscall.SIGKILL, 0, 800))},
		{name: "choria-network", group: "choria", about: "with Choria's own broker and tokens: cut, mute, delay or reorder", topology: t, rounds: 3,
			do: either(cut("node", 1500), cut("receiver", 1500), mute("node", 2500), mute("receiver", 2500), reorder)},
		{name: "choria-rollback-broker", group: "choria", about: "with Choria's own broker and tokens: its store is replaced by a copy that is up to 2 s old", topology: t, rounds: 1, do: rollback("broker")},
	}
}
