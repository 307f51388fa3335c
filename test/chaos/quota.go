package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// quota is a btrfs in a file, with a quota on all of it: of what is here that can be had without a kernel of one's own, it alone has one.
type quota struct{ image, top, dir string }

// limitedGroup is the quota group of the first subvolume.
const limitedGroup = "0/256"

// newQuota makes one, mounted on a directory; the image is beside that.
func newQuota(dir string) (*quota, error) {
	q := &quota{dir + ".btrfs", dir + ".top", dir}
	for _, d := range []string{q.top, dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(q.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(q.image, 256<<20); err != nil {
		return nil, err
	}
	// The limit is a subvolume's. Whoever sets it does so beside it, or would be refused that himself.
	for _, c := range [][]string{{"mkfs.btrfs", "-q", q.image}, {"mount", "-o", "loop", q.image, q.top}, {"btrfs", "subvolume", "create", q.top + "/limited"}, {"btrfs", "quota", "enable", q.top}} {
		if _, err := command(c[0], c[1:]...); err != nil {
			return nil, err
		}
	}
	device, err := command("findmnt", "--noheadings", "--output", "SOURCE", q.top)
	if err != nil {
		return nil, err
	}
	if _, err := command("mount", "-o", "subvol=limited", device, dir); err != nil {
		return nil, err
	}
	return q, nil
}

// used is how many bytes count, once all is written.
func (q *quota) used() (int64, error) {
	if _, err := command("btrfs", "filesystem", "sync", q.top); err != nil {
		return 0, err
	}
	out, err := command("btrfs", "qgroup", "show", "--raw", q.top)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == limitedGroup {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no quota group: %s", out)
}

// limit lets no more bytes be used; -1: any number.
func (q *quota) limit(bytes int64) error {
	most := "none"
	if bytes >= 0 {
		most = fmt.Sprint(bytes)
	}
	_, err := command("btrfs", "qgroup", "limit", most, limitedGroup, q.top)
	return err
}

func (q *quota) close() error { return errors.Join(unix.Unmount(q.dir, 0), unix.Unmount(q.top, 0)) }

// quotaMissing tells why there can be none; empty: there can.
func quotaMissing() string {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	q, err := newQuota(filepath.Join(dir, "q"))
	if err != nil {
		return "no quota can be had: " + err.Error()
	}
	if err := q.close(); err != nil {
		return "no quota can be had: " + err.Error()
	}
	return ""
}

// kept is the directory that a quota is put on.
func (s *system) kept(kind, name string) string {
	if kind == "receiver" {
		return s.output(name)
	}
	return s.path(name + "/state")
}

// exceed lets a process use hardly more of its quota for a while.
func exceed(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		q := s.quotas[name]
		said := s.listen(name, syscall.EDQUOT.Error())
		used, err := q.used()
		leave := int64(r.IntN(8 << 10))
		if s.failed(err) || s.failed(q.limit(used+leave)) {
			return nothing
		}
		s.event("%s may use %d bytes more", q.dir, leave)
		pause(r, 1000, 3000)
		if r.IntN(3) == 0 {
			s.kill(name, syscall.SIGKILL)
			s.start(name)
			pause(r, 300, 1000)
		}
		e := said()
		if s.failed(q.limit(-1)) {
			return nothing
		}
		s.event("%s has no limit any more", q.dir)
		return e
	}
}

func quotaFaults() (all []*fault) {
	for _, k := range []struct{ kind, what string }{{"node", "a node's state"}, {"receiver", "the receiver's output"}} {
		t := single
		t.quota = k.kind
		all = append(all, &fault{name: "quota-" + k.kind, group: "disk", about: "the quota of " + k.what + " is used up for some seconds", topology: t, rounds: 2, do: exceed(k.kind), alone: true})
	}
	return all
}
