package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/test/proc"
)

// separate gives a receiver's output a file system of its own. What lies below it, while it isn't mounted, is elsewhere.
func (s *system) separate(name string) error {
	below := s.path(name + ".below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		return err
	}
	if _, err := command("mount", "--bind", s.path(name), below); err != nil {
		return err
	}
	s.binds = append(s.binds, below)
	s.elsewhere = append(s.elsewhere, filepath.Join(below, "received"))
	v, err := newVolume(s.output(name), 192<<20)
	if err == nil {
		s.volumes[name+"/received"] = v
	}
	return err
}

func (s *system) address(server int) string {
	if s.choria != nil {
		return s.choria.address()
	}
	if s.network != nil {
		return fmt.Sprintf("%s:%d", centreAddress, 4222+server)
	}
	return fmt.Sprintf("%s:%d", s.host, 4222+server)
}

// urls are those of the servers themselves.
func (s *system) urls() string {
	var list []string
	for i := range s.servers {
		list = append(list, "nats://"+s.address(i))
	}
	return strings.Join(list, ",")
}

// through makes a client's links and gives their URLs.
func (s *system) through(name string) (string, error) {
	if s.network != nil { // what is between them is the network
		return s.urls(), nil
	}
	var urls []string
	for i := range s.servers {
		k, err := proc.NewLink(s.address(i))
		if err != nil {
			return "", err
		}
		s.links[name] = append(s.links[name], k)
		urls = append(urls, "nats://"+k.Address)
	}
	return strings.Join(urls, ", "), nil
}

func (s *system) write(name string, lines ...string) error {
	return os.WriteFile(s.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (s *system) layServers() error {
	if s.servers == 1 {
		return nil
	}
	var routes []string
	for i := range s.servers {
		routes = append(routes, fmt.Sprintf("nats://%s:%d", s.host, 6222+i))
	}
	for i, name := range s.serverNames() {
		err := s.write(name+".conf", fmt.Sprintf("server_name: %s\nlisten: %q\nlog_file: %q", name, s.address(i), s.path(name+".log")),
			fmt.Sprintf("jetstream { store_dir: %q, max_file_store: 10GB, max_memory_store: 1GB }", s.path(name+"/store")),
			fmt.Sprintf("cluster { name: chaos, listen: \"%s:%d\", no_advertise: true, routes: [ %s ] }", s.host, 6222+i, strings.Join(routes, ", ")), accounts)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *system) output(receiver string) string {
	if s.shared {
		return s.path("received")
	}
	return s.path(receiver + "/received")
}

func (s *system) outputs() (list []string) {
	for _, r := range s.receiverNames() {
		list = append(list, s.output(r))
	}
	return list
}

func (s *system) layReceivers() error {
	for _, name := range s.receiverNames() {
		urls, err := s.through(name)
		if err != nil {
			return err
		}
		lines := append([]string{"url = " + urls, "output = " + s.output(name), "state = " + s.path(name+"/state"), "receiver = " + name,
			"rotate_size = 256KiB", "compress = zstd", "commit_interval = 100ms", "lease_interval = 200ms", "lease_timeout = 1s"}, s.receive...)
		if s.choria != nil {
			lines = append(lines, s.choria.receiver(name)...)
		}
		if err := s.write(name+".cfg", lines...); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) identity(node int) string { return fmt.Sprintf("web%d.example.net", node+1) }

// sealKey is a node's key to seal with. It isn't in the node's state, which some faults wipe.
func (s *system) sealKey(node int) string { return s.path(fmt.Sprintf("node%d.seal.key", node+1)) }

func (s *system) layNodes(seed uint64) error {
	for i, name := range s.nodeNames() {
		urls, err := s.through(name)
		if err != nil {
			return err
		}
		logs, definitions := s.path(name+"/logs"), s.path(name+".d")
		for _, d := range []string{logs, definitions} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		socket := s.path(name + ".s") // a unix socket's path has at most 107 bytes
		allowed := s.path(name + "/logs/**")
		if s.linkable {
			allowed = s.path(name + "/logs*/**")
		}
		lines := append([]string{"identity = " + s.identity(i), "state = " + s.path(name+"/state"), "policy = peers", "audit_log = " + s.path(name+".audit"),
			"wishes = " + s.path(name+".wishes"), "socket = " + socket, "forwarders = " + definitions, "destination.central.url = " + urls,
			"allowed_paths = " + allowed, "sync_interval = 1s", "poll = 100ms", "quiet = 200ms", "checkpoint_interval = 200ms"}, s.node...)
		if s.seals = seed%2 == 1; s.seals {
			lines = append(lines, "destination.central.seal = true", "seal_key = "+s.sealKey(i))
		}
		if s.choria != nil {
			lines = append(lines, s.choria.node(i)...)
		}
		if err := s.write(name+".cfg", lines...); err != nil {
			return err
		}
		c := control.NewClient(socket)
		c.Timeout = 5 * time.Second
		s.control = append(s.control, c)
		if s.many {
			err := s.write(name+".d/many.yaml", "log: many", "path: "+logs+"/*.log", "destination: central", "start: beginning")
			if err != nil {
				return err
			}
		}
		if s.globs {
			err := errors.Join(os.MkdirAll(logs+"/found", 0o755), os.MkdirAll(logs+"/deep", 0o755),
				s.write(name+".d/found.yaml", "log: found", "path: "+logs+"/found/*.log", "destination: central", "start: beginning"),
				s.write(name+".d/deep.yaml", "log: deep", "path: "+logs+"/deep/**/*.log", "destination: central", "start: beginning"))
			if err != nil {
				return err
			}
		}
		for j := range s.logs {
			log := fmt.Sprintf("app%d", j+1)
			path := filepath.Join(logs, log+".log")
			if s.many {
				log = "many." + log + ".log"
			} else if err := s.write(name+".d/"+log+".yaml", "log: "+log, "path: "+path, "destination: central", "start: beginning"); err != nil {
				return err
			}
			w := newStream(i, log, path, seed)
			if s.many {
				w.lines = 2
			}
			if s.many || s.still {
				w.rotates = 0
			}
			s.streams = append(s.streams, w)
		}
	}
	return nil
}
