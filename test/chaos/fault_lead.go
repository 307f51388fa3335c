package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// metadata stands for the group of a cluster that knows which streams there are, beside the streams' names.
const metadata = "the metadata"

// accounts of a cluster: whoever says nothing is in the first, and the second may ask for the metadata's leader, and have it step down.
const accounts = `accounts { LOGS: { jetstream: enabled, users: [ { user: logs, password: logs } ] }, SYS: { users: [ { user: system, password: system } ] } }
system_account: SYS
no_auth_user: logs`

// superior does something with a cluster in its system account.
func (s *system) superior(do func(nc *nats.Conn) error) error {
	nc, err := nats.Connect(s.urls(), nats.UserInfo("system", "system"), nats.Timeout(2*time.Second))
	if err != nil {
		return err
	}
	defer nc.Close()
	return do(nc)
}

// metadataLeader is the server that leads the metadata; empty: none, or it can't be told.
func (s *system) metadataLeader() (leader string) {
	_ = s.superior(func(nc *nats.Conn) error {
		m, err := nc.Request("$SYS.REQ.SERVER.PING.JSZ", nil, 2*time.Second)
		if err != nil {
			return err
		}
		var said struct {
			Data struct {
				Meta struct {
					Leader string `json:"leader"`
				} `json:"meta_cluster"`
			} `json:"data"`
		}
		err = json.Unmarshal(m.Data, &said)
		leader = said.Data.Meta.Leader
		return err
	})
	return leader
}

// leaders are those of all streams, and of the metadata; empty: none.
func (s *system) leaders() map[string]string {
	all := map[string]string{metadata: s.metadataLeader()}
	_ = s.administer(func(ctx context.Context, js jetstream.JetStream) error {
		list := js.ListStreams(ctx)
		for i := range list.Info() {
			all[i.Config.Name] = ""
			if i.Cluster != nil {
				all[i.Config.Name] = i.Cluster.Leader
			}
		}
		return list.Err()
	})
	return all
}

// leading picks a server that leads something, if one can be told.
func (s *system) leading(r *rand.Rand) string {
	name := pick(r, s.serverNames())
	list := slices.DeleteFunc(slices.Sorted(maps.Values(s.leaders())), func(n string) bool { return !slices.Contains(s.serverNames(), n) })
	if list = slices.Compact(list); len(list) > 0 {
		name = list[r.IntN(len(list))]
	}
	return name
}

// succeeded waits until another leads all that a server has led. Its effect is that this was so for something at least.
func (s *system) succeeded(name string, before map[string]string) effect {
	var led, now []string
	for what, l := range before {
		if l == name {
			led = append(led, what)
		}
	}
	slices.Sort(led)
	heirs := map[string]string{}
	_ = wait(25*time.Second, func() error {
		found := s.leaders()
		now = now[:0]
		for _, what := range led {
			if l := found[what]; l != "" && l != name {
				now, heirs[what] = append(now, what), l
			}
		}
		if len(now) < len(led) {
			return fmt.Errorf("%d of %d", len(now), len(led))
		}
		return nil
	})
	s.event("%s led %s; of these others lead now: %s", name, strings.Join(led, ", "), strings.Join(now, ", "))
	if len(now) == 0 {
		return nothing
	}
	return seen(fmt.Sprintf("%s was led by %s, and by %s then, as were %d more by others", now[0], name, heirs[now[0]], len(now)-1))
}

// depose ends a server that leads something, or stops it, until others lead all of that.
func depose(sig syscall.Signal) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := s.leading(r)
		defer s.hold(name)()
		before := s.leaders()
		if sig == syscall.SIGSTOP {
			stood := s.halt(name)
			heirs := s.succeeded(name, before)
			s.resume(name)
			return together(stood, heirs)
		}
		ended := s.kill(name, sig)
		heirs := s.succeeded(name, before)
		s.start(name)
		return together(ended, heirs)
	}
}

// stepDown has a server give the lead of all that it leads to others.
func stepDown(s *system, r *rand.Rand) effect {
	name := s.leading(r)
	defer s.hold(name)()
	before := s.leaders()
	s.event("%s is asked to step down", name)
	ask := func(nc *nats.Conn, subject string) {
		if m, err := nc.Request(subject, nil, 2*time.Second); err != nil || strings.Contains(string(m.Data), `"error"`) {
			s.event("%s: %v", subject, err)
		}
	}
	if before[metadata] == name {
		s.failed(s.superior(func(nc *nats.Conn) error { ask(nc, "$JS.API.META.LEADER.STEPDOWN"); return nil }))
	}
	s.failed(s.administer(func(ctx context.Context, js jetstream.JetStream) error {
		for _, stream := range slices.Sorted(maps.Keys(before)) {
			if stream == metadata {
				continue
			}
			if before[stream] == name {
				ask(js.Conn(), "$JS.API.STREAM.LEADER.STEPDOWN."+stream)
			}
			st, err := js.Stream(ctx, stream)
			if err != nil {
				continue // nobody leads it at this moment
			}
			consumers := st.ListConsumers(ctx)
			for c := range consumers.Info() {
				if c.Cluster != nil && c.Cluster.Leader == name {
					ask(js.Conn(), "$JS.API.CONSUMER.LEADER.STEPDOWN."+stream+"."+c.Name)
				}
			}
		}
		return nil
	}))
	return s.succeeded(name, before)
}

// connectedTo is the server that a process has a connection to; empty: none.
func (s *system) connectedTo(name string) string {
	for i, k := range s.links[name] {
		if k.Connections() > 0 {
			return s.serverNames()[i]
		}
	}
	return ""
}

// moveNodes ends the server that a node is connected to, until all that were connected to it are connected to others.
func moveNodes(s *system, r *rand.Rand) effect {
	first := pick(r, s.nodeNames())
	_ = wait(20*time.Second, func() error {
		if s.connectedTo(first) == "" {
			return fmt.Errorf("%s is connected to none", first)
		}
		return nil
	})
	server := s.connectedTo(first)
	if server == "" {
		return nothing
	}
	defer s.hold(server)()
	var mine []string
	for _, n := range s.nodeNames() {
		if s.connectedTo(n) == server {
			mine = append(mine, n)
		}
	}
	sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)]
	e := s.kill(server, sig)
	var moved []string
	_ = wait(20*time.Second, func() error {
		moved = moved[:0]
		for _, n := range mine {
			if to := s.connectedTo(n); to != "" && to != server {
				moved = append(moved, fmt.Sprintf("%s was connected to %s, and to %s then", n, server, to))
			}
		}
		if len(moved) < len(mine) {
			return fmt.Errorf("%d of %d", len(moved), len(mine))
		}
		return nil
	})
	pause(r, 200, 1500)
	s.start(server)
	return together(e, seen(strings.Join(moved, "; ")))
}
