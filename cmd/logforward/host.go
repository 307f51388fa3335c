package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// maxHost bounds the files that tell of a node, in bytes.
const maxHost = 16 << 20

// host is what Choria knows of this node, for policy to decide by.
type host struct {
	facts, classes string // files; empty: none
}

// hostOf takes the files that the node's Choria Server reads.
func hostOf(configs choriaConfigs) host {
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		return host{facts: configs[name].Facts, classes: configs[name].Classes}
	}
	return host{}
}

// about reads the facts, as JSON, and the classes. A file that isn't there has none; one that can't be
// read is an error, for a policy may forbid by it.
func (h host) about() (json.RawMessage, []string, error) {
	facts, err := h.read(h.facts)
	if err != nil {
		return nil, nil, fmt.Errorf("facts: %w", err)
	}
	if len(facts) > 0 && !json.Valid(facts) {
		if facts, err = yaml.YAMLToJSON(facts); err != nil {
			return nil, nil, fmt.Errorf("facts %s: %w", h.facts, err)
		}
	}
	classes, err := h.read(h.classes)
	if err != nil {
		return nil, nil, fmt.Errorf("classes: %w", err)
	}
	return facts, strings.Fields(string(classes)), nil
}

func (h host) read(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxHost:
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", file, maxHost)
	}
	return os.ReadFile(file)
}
