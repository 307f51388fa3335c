package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"logforward/internal/control"
)

// behind runs something with a log's writer while its node is frozen, which has read everything before, and now there is more that it hasn't. mu is held.
func behind(do func(s *system, r *rand.Rand, w *stream, unread int) (effect, error)) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.nodeNames())
		defer s.hold(name)()
		streams, release := s.holdWriters(name)
		defer release()
		w := streams[r.IntN(len(streams))]
		s.failed(wait(patience, func() error { return s.lagOf(name) })) // a file that it never saw it can't follow
		stood := s.halt(name)
		at := len(w.written)
		s.failed(w.append(w.some(50 + r.IntN(400))))
		e, err := do(s, r, w, len(w.written)-at)
		if s.failed(err) {
			return nothing
		}
		s.failed(w.append(w.some(1 + r.IntN(100))))
		s.resume(name)
		return together(stood, e)
	}
}

// truncateUnread truncates a file while the log is held, and the node has seen how much there is that it hasn't read.
func truncateUnread(s *system, r *rand.Rand) effect {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	streams, release := s.holdWriters(name)
	defer release()
	w := streams[r.IntN(len(streams))]
	s.failed(wait(patience, func() error { return s.lagOf(name) }))
	c := s.control[w.node]
	_, err := c.Pause(context.Background(), control.PauseRequest{Log: w.log, Reason: "chaos"})
	if s.failed(err) {
		return nothing
	}
	at := len(w.written)
	s.failed(w.append(w.some(50 + r.IntN(400))))
	s.failed(wait(patience, func() error {
		st, err := c.Status(context.Background(), control.StatusRequest{Log: w.log})
		if err == nil && (len(st.Logs) != 1 || st.Logs[0].LagBytes != int64(len(w.written)-at)) {
			err = fmt.Errorf("%+v", st.Logs)
		}
		return err
	}))
	s.event("%s of node%d is truncated: %d bytes weren't read", w.log, w.node+1, len(w.written)-at)
	unread := len(w.written) - at
	w.gone = append(w.gone, span{from: at, to: len(w.written)})
	s.failed(w.truncate())
	e := truncated(w, unread)
	s.failed(w.append(w.some(1 + r.IntN(500))))
	_, err = c.Resume(context.Background(), control.ResumeRequest{Log: w.log})
	s.failed(err)
	return e
}

// truncated is the effect that a file is empty which had so much in it that wasn't read.
func truncated(w *stream, unread int) effect {
	if st, err := os.Stat(w.path); err != nil || st.Size() > 0 {
		return nothing
	}
	return seen(numbered("%d bytes that weren't read are truncated", unread))
}

func truncateUnseen(s *system, r *rand.Rand, w *stream, unread int) (effect, error) {
	s.event("%s of node%d is truncated before the node has seen what is in it", w.log, w.node+1)
	g := w.generations[len(w.generations)-1]
	w.doubt(g, g.size()-unread, "truncated before the node's next look")
	err := w.truncate()
	return truncated(w, unread), err
}

func removeUnread(s *system, r *rand.Rand, w *stream, unread int) (effect, error) {
	s.event("%s of node%d is removed before it was read", w.log, w.node+1)
	if err := os.Remove(w.path); err != nil {
		return nothing, err
	}
	e := seen("")
	if !exists(w.path) {
		e = seen(numbered("a file is gone that has %d bytes unread", unread))
	}
	return e, w.reopened()
}

// removeBeyond does so with more than may be held, and hears the node say that it let the file go.
func removeBeyond(s *system, r *rand.Rand, w *stream, unread int) (effect, error) {
	name := s.nodeNames()[w.node]
	said := s.listenOn(name, "the budget for them is used up")
	e, err := removeUnread(s, r, w, unread)
	return together(e, said), err
}

// rewrite writes other bytes over those that were sent and aren't confirmed, and makes the broker lose them.
func rewrite(s *system, r *rand.Rand) effect {
	defer s.hold(s.everybody()...)()
	name := pick(r, s.nodeNames())
	streams, release := s.holdWriters(name)
	defer release()
	w := streams[r.IntN(len(streams))]
	s.failed(wait(patience, func() error { return s.lagOf(name) }))
	for _, receiver := range s.receiverNames() {
		s.kill(receiver, syscall.SIGKILL)
	}
	at := len(w.written)
	s.failed(w.append(w.some(50 + r.IntN(100))))
	time.Sleep(400 * time.Millisecond) // so that the node sends it; where it didn't, the other bytes are the first
	sent := len(w.written) - at
	g := w.generations[len(w.generations)-1]
	other := make([]byte, 0, sent)
	for len(other) < sent {
		other = append(other, w.some(1)...)
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
	if s.failed(err) {
		return nothing
	}
	_, err = f.WriteAt(other[:sent], int64(g.size()-sent))
	s.failed(errors.Join(err, f.Close()))
	s.event("%d bytes of %s of node%d are written over; the broker loses the first ones", sent, w.log, w.node+1)
	w.uncertain(span{at, at + sent, "written over"})
	w.note(other[:sent])
	w.uncertain(span{at + sent, at + 2*sent, "written over what was sent"})
	content, err := os.ReadFile(w.path)
	s.failed(err)
	list := []effect{nothing}
	if bytes.HasSuffix(content, other[:sent]) {
		list[0] = seen(numbered("%d bytes of the file are other ones", sent))
	}
	for _, broker := range s.serverNames() {
		s.kill(broker, syscall.SIGKILL)
		e, err := s.wipe("broker", broker)
		s.failed(err)
		list = append(list, e)
		s.start(broker)
	}
	for _, receiver := range s.receiverNames() {
		s.start(receiver)
	}
	return together(list...)
}

func fileFaults() []*fault {
	held := single
	held.node = []string{"held_deleted = 8KiB"}
	return []*fault{
		{name: "truncate", group: "files", about: "a file is truncated before it was read", topology: single, rounds: 3, do: truncateUnread, alone: true, least: true,
			causes: []string{"truncated"}, why: "what was truncated away unread is gone: a gap, of at least as many bytes as the node had seen"},
		{name: "truncate-unseen", group: "files", about: "a file is written and truncated again before the node has looked at it", topology: single, rounds: 3, do: behind(truncateUnseen), alone: true,
			causes: []string{"truncated"}, why: "what is written and truncated between two looks nobody can see"},
		{name: "remove", group: "files", about: "a file is removed before it was read", topology: single, rounds: 3, do: behind(removeUnread), alone: true},
		{name: "remove-beyond", group: "files", about: "a file is removed before it was read, with more in it than held_deleted", topology: held, rounds: 3, do: behind(removeBeyond), alone: true,
			causes: []string{"deleted beyond the budget", "can't be read again"}, why: "what exceeds the budget is let go: a gap of exactly that size"},
		{name: "rewrite", group: "files", about: "bytes that were sent and aren't confirmed are written over, and the broker loses them", topology: single, rounds: 1, do: rewrite, alone: true,
			causes: []string{"changed since it was read", "can't be read again"}, why: "the first bytes are nowhere any more: a gap. What is remembered to prove that a file is still the same stands in front of what was read last, and that is written over: so it counts as a new one and is sent from its beginning, what was confirmed of it once more", doubles: true},
	}
}

// killing says when a node is killed about a rotation.
type killing int

const (
	neverKilled killing = iota
	killedBefore
	// killedLate is also killed between the rotation and its writers' reopening: what it has read of the removed files is in no file any more.
	killedLate
)

// logrotate rotates all logs of a node with the real one, while they are written. Its writers reopen their files a while later. A third of the
// time each the node is frozen or down meanwhile, so that it is behind, and what is moved away may be so twice: then it never saw the second file.
func logrotate(options string, kills killing) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.nodeNames())
		defer s.hold(name)()
		var mine []*stream
		for _, w := range s.streams {
			if s.nodeNames()[w.node] == name {
				mine = append(mine, w)
			}
		}
		if strings.Contains(options, "shred") { // what is overwritten and removed shall have been read
			_, release := s.holdWriters(name)
			s.failed(wait(patience, func() error { return s.lagOf(name) }))
			release()
		}
		how := r.IntN(3)
		frozen, down, late := how == 1 || how == 2 && kills == neverKilled, how == 2 && kills != neverKilled, how == 0 && kills == killedLate
		var list []effect
		if frozen {
			list = append(list, s.halt(name))
		}
		if down {
			list = append(list, s.kill(name, syscall.SIGKILL))
		}
		if frozen || down {
			pause(r, 50, 600)
		}
		conf := s.path(name + ".logrotate")
		text := fmt.Sprintf("%s {\nsu root root\nrotate 1000\n%s\n}\n", s.path(name+"/logs/*.log"), strings.ReplaceAll(options, "; ", "\n"))
		if s.failed(os.WriteFile(conf, []byte(text), 0o644)) || s.failed(os.Chmod(s.path(name+"/logs"), 0o755)) {
			return nothing
		}
		if strings.Contains(options, "olddir") {
			s.failed(os.MkdirAll(s.path(name+"/logs/old"), 0o755))
		}
		times := 1
		// Where files are moved into another directory while the node is down, it isn't told of that, and finds the one that it knew.
		if (frozen || down && !strings.Contains(options, "olddir")) && !strings.HasPrefix(options, "copy") {
			times += r.IntN(2)
		}
		for range times {
			for _, w := range mine {
				if strings.Contains(options, "dateext") {
					w.mu.Lock()
					s.failed(w.older())
					w.mu.Unlock()
				}
			}
			before := s.rotated(name)
			said, err := command(logrotateProgram, "-v", "-f", "-s", s.path(name+".rotated"), conf)
			if s.failed(err) {
				return nothing
			}
			e := seen(numbered("logrotate made %d files that weren't there", differing(nil, newer(before, s.rotated(name)))))
			if strings.Contains(options, "shred") {
				e = seen(numbered("logrotate shredded %d files", strings.Count(said, "Using shred to remove the file")))
			}
			list = append(list, e)
			s.event("logrotate of %s: %s", name, options)
			switch {
			case strings.HasPrefix(options, "copytruncate"):
				for _, w := range mine {
					s.afterCopytruncate(w, options)
				}
			case strings.HasPrefix(options, "copy"):
			default:
				pause(r, 0, 300) // until whoever writes has been told
				if late {
					list = append(list, s.kill(name, syscall.SIGKILL))
					pause(r, 0, 300)
				}
				for _, w := range mine {
					s.afterRename(w, options)
				}
			}
			if times > 1 {
				pause(r, 0, 300)
			}
		}
		if frozen {
			pause(r, 0, 400)
			s.resume(name)
		}
		if down || late {
			pause(r, 0, 400)
			s.start(name)
		}
		return together(list...)
	}
}

// rotated are the files below a node's logs but the live ones.
func (s *system) rotated(node string) map[string]string {
	all := tree(s.path(node+"/logs"), false)
	for _, w := range s.streams {
		delete(all, w.path)
	}
	return all
}

// newer are those of the second that aren't in the first.
func newer(a, b map[string]string) map[string]string {
	b = maps.Clone(b)
	for k := range a {
		delete(b, k)
	}
	return b
}

const logrotateProgram = "/usr/sbin/logrotate"

// afterCopytruncate finds out what was lost to logrotate itself: the copy has the beginning, the file what was written since it was truncated.
func (s *system) afterCopytruncate(w *stream, options string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copied, err := readRotated(w.path+".1", options)
	if s.failed(err) {
		return
	}
	lost, err := w.copied(copied)
	s.failed(err)
	if lost > 0 {
		s.event("%s of node%d: %d bytes were written between copy and truncation", w.log, w.node+1, lost)
	}
}

// afterRename lets a writer reopen. What it wrote after logrotate had compressed its file is lost to logrotate.
func (s *system) afterRename(w *stream, options string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.generations[len(w.generations)-1]
	if strings.Contains(options, "renamecopy") || strings.Contains(options, "compress") && !strings.Contains(options, "delaycompress") {
		path := w.path + ".1"
		if strings.Contains(options, "dateext") {
			path = newest(w.path + "-*.gz")
		}
		kept, err := readRotated(strings.TrimSuffix(path, ".gz"), options)
		if s.failed(err) {
			return
		}
		if lost := w.doubt(g, len(kept), "written to a file that logrotate had copied or compressed, and removed"); lost > 0 {
			s.event("%s of node%d: %d bytes were written to a file that logrotate had removed", w.log, w.node+1, lost)
		}
	}
	s.failed(w.reopened())
}

func newest(pattern string) (path string) {
	list, _ := filepath.Glob(pattern)
	var when time.Time
	for _, p := range list {
		if st, err := os.Stat(p); err == nil && !st.ModTime().Before(when) {
			path, when = p, st.ModTime()
		}
	}
	return path
}

func readRotated(path, options string) ([]byte, error) {
	if !strings.Contains(options, "compress") || strings.Contains(options, "delaycompress") {
		return os.ReadFile(path)
	}
	f, err := os.Open(path + ".gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func rotationFaults() (all []*fault) {
	still := single
	still.still = true
	own := &fault{name: "rotate", group: "rotation", about: "files are renamed every few steps, and late lines go to the old ones", topology: single, rounds: 3,
		do: func(s *system, r *rand.Rand) effect {
			rotations := 0
			for range 5 {
				w := s.streams[r.IntN(len(s.streams))]
				w.mu.Lock()
				s.event("rotate %s of node%d", w.log, w.node+1)
				before := w.rotated
				s.failed(w.rotate(r.IntN(2) == 0))
				rotations += w.rotated - before
				w.mu.Unlock()
				pause(r, 0, 150)
			}
			return seen(numbered("%d files were renamed", rotations))
		}}
	all = append(all, own)
	between := "what is written between copy and truncation is lost by logrotate: what the node had seen of it, and not read, is a gap, and the rest nobody can see"
	twice := "; and a copy that lacks what was read behind it, and is compressed before the truncation is seen, isn't known for a copy: it comes twice"
	late := "what is written to a file after logrotate has compressed and removed it is in no file any more; the node reads it as long as it has the file open"
	copied := "what is written to a file after logrotate has copied it and before it is removed is in no file any more; the node reads it as long as it has the file open"
	killed := "; where it is killed, what it had seen of that and hadn't sent is a gap"
	shredded := "shred empties a file before it removes it; where the node still has that one in its books it looks truncated, and a gap of unknown size says so, though all of it may have been read"
	for _, m := range []struct{ name, options, why string }{
		{"create", "create", ""},
		{"nocreate", "nocreate; missingok", ""},
		{"copy", "copy", ""},
		{"copytruncate", "copytruncate", between},
		{"copytruncate-compress", "copytruncate; compress", between + twice},
		{"compress", "create; compress", late + killed},
		{"delaycompress", "create; compress; delaycompress", ""},
		{"dateext", "create; dateext; dateformat -%s", ""},
		{"dateext-compress", "create; dateext; dateformat -%s; compress", late + killed},
		{"renamecopy", "renamecopy; create", copied},
		{"renamecopy-killed", "renamecopy; create", copied + "; of a file of which the state knew less than 1 KiB the copy isn't known for one, and comes twice" + killed},
		{"shred", "create; rotate 2; shred", shredded},
		{"olddir", "create; olddir old", ""},
		{"olddir-compress", "create; olddir old; compress; delaycompress", ""},
	} {
		var causes []string
		if strings.HasPrefix(m.why, between) || m.why == shredded {
			causes = []string{"truncated"}
		}
		unsent := strings.HasSuffix(m.why, killed)
		if unsent {
			causes = []string{"truncated", "not found after a restart"}
		}
		rounds, when := 3, killedBefore
		switch {
		case m.name == "shred": // until there are more than it keeps
			rounds = 7
		case m.name == "renamecopy-killed":
			rounds, when = 6, killedLate
		case m.why == copied:
			when = neverKilled
		}
		all = append(all, &fault{name: "logrotate-" + m.name, causes: causes, group: "rotation", about: "the real logrotate, with " + m.options + ", while its logs are written", topology: still, rounds: rounds,
			why: m.why, doubles: strings.HasSuffix(m.why, twice) || m.name == "renamecopy-killed", honest: unsent, alone: true, do: logrotate(m.options, when)})
	}
	return all
}

// logrotateMissing tells why the real one can't be run; empty: it can.
func logrotateMissing() string {
	if _, err := exec.LookPath(logrotateProgram); err != nil {
		return "logrotate isn't installed"
	}
	return ""
}
