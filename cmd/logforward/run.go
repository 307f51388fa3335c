package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/choria-io/fisk"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/receive"
	"logforward/internal/settings"
	"logforward/internal/tail"
)

func (p *program) runCommand(app *fisk.Application) {
	var paths []string
	var set *given
	c := p.command(app, "run", "Forward files to a directory, with everything in one process", `
Starts a broker of its own, a receiver and a forwarder, and shows how far each log is.
Files are read from their beginning. It ends with Ctrl-C or after --seconds, and says then
whether the central bytes are the files' bytes. What is kept below <output>/.logforward lets
the next run continue where this one ended.

    logforward run /var/log/syslog
    logforward run '/var/log/nginx/*.log' --output /srv/logs --seconds 30
    logforward status --socket received/.logforward/forward.sock
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		log := p.logger(v)
		defer muchMemory()()
		files, err := runFiles(paths)
		if err != nil {
			return err
		}
		s := &solo{program: p, values: v, log: log, files: files}
		return s.run(ctx)
	})
	c.Arg("path", "Files or quoted globs").Required().StringsVar(&paths)
	set = p.settings(c, settings.Run)
}

// runFile is one file that run forwards.
type runFile struct{ log, path string }

// inode is which file a path leads to now; empty: none.
func inode(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}

// runFiles turns arguments into files with unique log names.
func runFiles(args []string) ([]runFile, error) {
	var files []runFile
	taken := map[string]bool{}
	seen := map[string]bool{}
	for _, arg := range args {
		path, err := filepath.Abs(arg)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", arg, err)
		}
		matches := []string{path}
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return nil, usage("run %s: it is a directory; name its files, such as '%s/*.log'", arg, strings.TrimSuffix(arg, "/"))
		case err == nil && !info.Mode().IsRegular():
			return nil, usage("run %s: only regular files are forwarded", arg)
		case err != nil:
			anywhere, perr := tail.ParseAllowed([]string{"/**"})
			if perr != nil {
				return nil, perr
			}
			found, refused, xerr := tail.Expand(path, anywhere)
			if xerr != nil {
				return nil, usage("run %s: %v", arg, xerr)
			}
			if len(found) == 0 && len(refused) > 0 {
				return nil, fmt.Errorf("run %s: none of %d matching files can be followed; %s: %s", arg, len(refused), refused[0].Path, refused[0].Reason)
			}
			if len(found) == 0 {
				return nil, fmt.Errorf("run %s: no such file: %w", arg, err)
			}
			matches = found
		}
		for _, m := range matches {
			if seen[m] {
				continue
			}
			seen[m] = true
			files = append(files, runFile{logName(m, taken), m})
		}
	}
	return files, nil
}

// logName is the file's name without ".log", made unique, and printable.
func logName(path string, taken map[string]bool) string {
	base := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.TrimSuffix(filepath.Base(path), ".log"))
	if control.CheckLog(base) != nil {
		base = "log"
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	taken[name] = true
	return name
}

// solo is everything in one process.
type solo struct {
	*program
	values *values
	log    *slog.Logger
	files  []runFile

	output, state, identity string
	forwarding              *forwarding
	first                   map[string]string // path → the file that it was when it was first named
}

func (s *solo) run(ctx context.Context) (err error) {
	if s.output, err = filepath.Abs(s.values.Text("output")); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if s.identity, err = s.values.identity(nil); err != nil {
		return err
	}
	s.state = filepath.Join(s.output, ".logforward")
	server, err := broker.Serve(ctx, broker.ServerOptions{InProcess: true, Store: filepath.Join(s.state, "broker"), SyncInterval: time.Second, MaxPayload: 8 << 20, Logger: s.log})
	if err != nil {
		return err
	}
	// The broker goes last: the others' last words go through it.
	defer func() { err = errors.Join(err, server.Shutdown()) }()
	// Behind the broker's lock of its store: another run on this output must not be disturbed.
	if err := errors.Join(s.define(), s.remember()); err != nil {
		return err
	}
	options := broker.Options{Server: server, Name: "logforward run", Logger: s.log}
	if _, err := applySetup(ctx, options, broker.Wanted{Prefix: "logs", Partitions: 1, Replicas: 1}, false); err != nil {
		return err
	}
	receiver := receive.New(receive.Config{Name: "run", Output: s.output, State: filepath.Join(s.state, "receive"), Broker: options,
		CommitInterval: 200 * time.Millisecond, Logger: s.log})
	if err := receiver.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, receiver.Close()) }()
	if s.forwarding, err = s.newForwarding(options); err != nil {
		return err
	}
	return s.work(ctx, receiver)
}

// define writes the files as definitions: so a log that isn't named this time isn't forwarded, and
// list and status say what there is as they do on any node.
func (s *solo) define() error {
	dir := filepath.Join(s.state, "forwarders.d")
	if err := os.MkdirAll(s.state, 0o700); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("definitions of the last run: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("definitions: %w", err)
	}
	for i := range s.files {
		f := &s.files[i]
		if literal(f.path) != f.path {
			// It is a glob of one file then, whose log has the file's name behind its own.
			defer func() { f.log += "." + filepath.Base(f.path) }()
		}
		if err := control.CheckPath(literal(f.path)); err != nil {
			return usage("run: %v", err)
		}
		text := fmt.Sprintf("log: %q\npath: %q\ndestination: here\nstart: beginning\n", f.log, literal(f.path))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.yaml", i)), []byte(text), 0o600); err != nil {
			return fmt.Errorf("definitions: %w", err)
		}
	}
	return nil
}

// remember keeps which file each path was at first: after a rotation the central side holds older
// files' bytes too, and comparing it with the file of today would be wrong.
func (s *solo) remember() error {
	path := filepath.Join(s.state, "files.json")
	s.first = map[string]string{}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s.first)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, f := range s.files {
		if s.first[f.path] == "" {
			s.first[f.path] = inode(f.path)
		}
	}
	if b, err = json.Marshal(s.first); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (s *solo) newForwarding(o broker.Options) (*forwarding, error) {
	var globs []string
	for _, f := range s.files {
		real, err := filepath.EvalSymlinks(f.path)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", f.path, err)
		}
		globs = append(globs, tail.QuoteGlob(real))
		// The rotated forms are needed too, to finish them.
		globs = append(globs, tail.QuoteGlob(real)+"*")
	}
	allowed, err := tail.ParseAllowed(globs)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	socket := filepath.Join(s.state, "forward.sock")
	if len(socket) > 107 {
		s.log.Warn("no control socket: its path would be too long", "socket", socket)
		socket = ""
	}
	return &forwarding{
		config: forward.Config{Identity: s.identity, Allowed: allowed, Logger: s.log,
			Destinations: map[string]forward.Destination{"here": {Broker: o, Prefix: "logs", Compression: forward.CompressionNone, Commit: forward.Confirmed}}},
		log: s.log, definitions: filepath.Join(s.state, "forwarders.d"), socket: socket, policy: withoutPolicy, state: filepath.Join(s.state, "forward"), metrics: registry(),
	}, nil
}

// work runs receiver and forwarder until ctx ends or the time is over. The forwarder ends first, so that the receiver
// still commits what was sent.
func (s *solo) work(ctx context.Context, receiver *receive.Receiver) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if n := s.values.Number("seconds"); n > 0 {
		timer := time.AfterFunc(time.Duration(n)*time.Second, cancel)
		defer timer.Stop()
	}
	receiving, stopReceiving := context.WithCancel(context.Background())
	defer stopReceiving()
	var group errgroup.Group
	group.Go(func() error {
		defer cancel() // a receiver that fails ends the rest
		return receiver.Run(receiving)
	})
	ready := make(chan struct{})
	viewed := make(chan []control.LogStatus, 1)
	group.Go(func() error {
		select {
		case <-ready:
			viewed <- s.watch(ctx)
		case <-ctx.Done():
			viewed <- nil
		}
		return nil
	})
	group.Go(func() error {
		defer stopReceiving()
		defer cancel()
		return s.forwarding.run(ctx, s.values.Text("metrics_listen"), func() { close(ready) })
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return s.summary(<-viewed)
}

// literal is the path as a definition must have it: one with a glob's characters in its name is quoted, and is
// a glob of one file then.
func literal(path string) string {
	if strings.ContainsAny(path, `*?[{\`) {
		return tail.QuoteGlob(path)
	}
	return path
}
