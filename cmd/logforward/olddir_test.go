package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"logforward/internal/settings"
)

// The setting logrotate names the configuration that tells where rotated files go; empty, none is read.
func TestForwardConfigReadsLogrotatesDirectories(t *testing.T) {
	dir := t.TempDir()
	conf, file := filepath.Join(dir, "logrotate.conf"), filepath.Join(dir, "logforward.cfg")
	config := func(path string) func(string) []string {
		text := "identity = web1\ndestination.central.url = nats://127.0.0.1\nlogrotate = " + path + "\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		v, err := settings.Load(settings.Forward, file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := forwardConfig(&values{v, settings.Forward}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return c.Olddirs
	}
	if err := os.WriteFile(conf, []byte("/var/log/*.log {\n olddir old\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := config(conf)("/var/log/app.log"), []string{"/var/log/old"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if config("") != nil {
		t.Error("without a configuration one is read")
	}
}
