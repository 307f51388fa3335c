// Command build makes the packages: a deb and an rpm for each architecture, of what packaging/nfpm.yaml lists.
//
// The same commit gives the same bytes: the program is built without paths and build ids, and every
// time in a package is that of the commit (SOURCE_DATE_EPOCH).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	b := &builder{}
	var architectures string
	flag.StringVar(&b.root, "root", "../..", "the repository")
	flag.StringVar(&b.out, "out", "dist", "directory of the packages, below the repository where it isn't absolute")
	flag.StringVar(&b.version, "version", "", "version, such as 1.2.3; empty: the latest tag's, or 0.0.0, with the commit's time and name")
	flag.StringVar(&architectures, "architectures", "amd64,arm64", "which, as Go calls them")
	flag.Parse()
	ctx, end := signal.NotifyContext(context.Background(), os.Interrupt)
	defer end()
	if err := b.run(ctx, strings.Split(architectures, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

type builder struct {
	root, out, version string
	time               time.Time // of the commit
}

// versions that both dpkg and rpm order as they are meant.
var versions = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+([~+.][0-9A-Za-z.~+]+)?$`)

func (b *builder) run(ctx context.Context, architectures []string) (err error) {
	if b.root, err = filepath.Abs(b.root); err != nil {
		return err
	}
	// What nfpm.yaml names lies below the repository.
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := os.Chdir(b.root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Chdir(here)) }()
	if err := b.date(ctx); err != nil {
		return err
	}
	if b.version == "" {
		if b.version, err = b.describe(ctx); err != nil {
			return err
		}
	}
	if !versions.MatchString(b.version) {
		return fmt.Errorf("version %q: want numbers such as 1.2.3, or 1.2.3~rc1", b.version)
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "logforward-packages-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := b.generate(ctx, work); err != nil {
		return err
	}
	for _, arch := range architectures {
		if err := b.compile(ctx, arch, filepath.Join(work, "logforward")); err != nil {
			return err
		}
		for _, format := range []string{"deb", "rpm"} {
			file, err := b.pack(format, arch, work)
			if err != nil {
				return fmt.Errorf("%s for %s: %w", format, arch, err)
			}
			fmt.Println(file)
		}
	}
	return nil
}

// date takes SOURCE_DATE_EPOCH, or the commit's time, and sets it for those that read it.
func (b *builder) date(ctx context.Context) error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := b.command(ctx, nil, "git", "log", "-1", "--format=%ct").Output()
		if err != nil {
			return fmt.Errorf("the commit's time: %w; outside of a repository set SOURCE_DATE_EPOCH", err)
		}
		text = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	b.time = time.Unix(seconds, 0).UTC()
	return os.Setenv("SOURCE_DATE_EPOCH", text)
}

// describe names what isn't a release so that a later commit is a later version.
func (b *builder) describe(ctx context.Context) (string, error) {
	commit, err := b.command(ctx, nil, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("the commit's name: %w; give -version", err)
	}
	base := "0.0.0"
	// git says on standard error that there is no tag, which is no fault.
	latest, exact := b.command(ctx, nil, "git", "describe", "--tags", "--abbrev=0"), b.command(ctx, nil, "git", "describe", "--tags", "--exact-match")
	latest.Stderr, exact.Stderr = nil, nil
	if out, err := latest.Output(); err == nil {
		base = strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
		if tagged, err := exact.Output(); err == nil && len(tagged) > 0 {
			return base, nil
		}
	}
	return base + "+" + b.time.Format("20060102150405") + "." + strings.TrimSpace(string(commit)), nil
}

func (b *builder) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Stderr, c.Env = b.root, os.Stderr, append(os.Environ(), env...)
	return c
}

func (b *builder) compile(ctx context.Context, arch, file string) error {
	c := b.command(ctx, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.release="+b.version, "-o", file, "./cmd/logforward")
	if err := c.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", arch, err)
	}
	return nil
}

// generate has a program of this machine write what follows from its command line: manual and completions.
func (b *builder) generate(ctx context.Context, work string) error {
	program := filepath.Join(work, "here")
	if err := b.command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./cmd/logforward").Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if err := b.command(ctx, nil, program, "manual", filepath.Join(work, "man")).Run(); err != nil {
		return fmt.Errorf("manual: %w", err)
	}
	for _, shell := range []string{"bash", "zsh"} {
		script, err := b.command(ctx, nil, program, "--completion-script-"+shell).Output()
		if err != nil || len(script) == 0 {
			return fmt.Errorf("completion for %s: %d bytes, %w", shell, len(script), err)
		}
		if err := os.WriteFile(filepath.Join(work, "logforward."+shell), script, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pack writes one package and gives its path.
func (b *builder) pack(format, arch, work string) (_ string, err error) {
	config, err := nfpm.ParseFileWithEnvMapping("packaging/nfpm.yaml", func(name string) string {
		return map[string]string{"VERSION": b.version, "ARCH": arch, "GENERATED": work}[name]
	})
	if err != nil {
		return "", err
	}
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	if info.Contents, err = withShared(info.Contents); err != nil {
		return "", err
	}
	info.VersionSchema, info.MTime = "none", b.time
	if format == "rpm" {
		info.Release = "1"
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.out, packager.ConventionalFileName(info))
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := packager.Package(info, f); err != nil {
		return "", errors.Join(err, os.Remove(file))
	}
	return file, nil
}

// withShared adds what nodes share: policies to render and to change, and the autonomous agents. These lie beside the
// store where Choria Server looks for them: a link into it starts the daemon, so that is whoever wants that to make.
// Tests stay at home.
func withShared(c files.Contents) (files.Contents, error) {
	for _, dir := range []string{"policies", "machine"} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && path == dir:
				return nil
			case err != nil || e.IsDir() && (e.Name() != "testdata"):
				return err
			case e.IsDir():
				return fs.SkipDir
			case strings.HasSuffix(path, ".go") || strings.Contains(e.Name(), "_test."):
				return nil
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if info.Mode()&0o111 != 0 {
				mode = 0o755
			}
			c = append(c, &files.Content{Source: path, Destination: "/usr/share/logforward/" + path, FileInfo: &files.ContentFileInfo{Mode: mode}})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}
