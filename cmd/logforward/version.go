package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/choria-io/fisk"
)

// release is set by the linker: -X main.release=1.2.3. Without it the build's own record is used.
var release string

func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, revision, modified := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
		if len(revision) >= 12 {
			v += "-" + revision[:12] + modified
		}
	}
	return v
}

// versions are what version prints.
type versions struct {
	Version  string `json:"version"`  // of logforward; devel-REVISION for a build that isn't a release
	Go       string `json:"go"`       // version of Go that it was built with
	Platform string `json:"platform"` // operating system and processor, such as linux/amd64
}

func (p *program) versionCommand(app *fisk.Application) {
	p.command(app, "version", "Show the version", "", func(context.Context) error {
		if p.json {
			return p.print(versions{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
		}
		_, err := fmt.Fprintf(p.out, "logforward %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	})
}
