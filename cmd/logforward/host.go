package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"logforward/internal/choria"
)

// maxHost bounds the files that tell of a node, in bytes.
const maxHost = 16 << 20

// host is what Choria knows of this node, for policy to decide by.
type host struct {
	config *choria.Config // of the node's Choria Server; nil: there is none
	err    error          // why it can't be read
}

// hostFacts are what a policy may ask of a node.
type hostFacts struct {
	facts     json.RawMessage
	classes   []string // sorted
	provision bool     // it is being provisioned
}

// hostOf takes the files that the node's Choria Server reads.
func hostOf(configs choriaConfigs) host {
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		return host{config: configs[name]}
	}
	// The broker may be another, and the node Choria's all the same: a policy may forbid by its facts.
	c, err := choria.Load(ownChoria)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return host{}
	case err != nil:
		return host{err: err}
	}
	return host{config: c}
}

// about reads what Choria Server reads, in the same way. A file that isn't there has nothing; one that can't be
// read is an error, for a policy may forbid by what is in it.
func (h host) about() (hostFacts, error) {
	if h.err != nil {
		return hostFacts{}, h.err
	}
	if h.config == nil {
		if h = hostOf(nil); h.err != nil { // it may have been provisioned meanwhile
			return hostFacts{}, h.err
		}
	}
	if h.config == nil {
		return hostFacts{facts: json.RawMessage("{}"), classes: []string{}, provision: choria.Unprovisioned(ownChoria)}, nil
	}
	facts, err := h.facts()
	if err != nil {
		return hostFacts{}, fmt.Errorf("facts: %w", err)
	}
	classes, err := h.classes()
	if err != nil {
		return hostFacts{}, fmt.Errorf("classes: %w", err)
	}
	provision, err := h.config.Provisioning(time.Now())
	if err != nil {
		return hostFacts{}, err
	}
	return hostFacts{facts, classes, provision}, nil
}

// facts merges the files; of facts that two have, the last counts.
func (h host) facts() (json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	for _, file := range filepath.SplitList(h.config.Facts) {
		b, err := readHost(file)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file, "yaml") && len(b) > 0 {
			if b, err = yaml.YAMLToJSON(b); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		if len(b) == 0 {
			continue
		}
		var facts map[string]json.RawMessage
		if err := json.Unmarshal(b, &facts); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		maps.Copy(all, facts)
	}
	return json.Marshal(all)
}

// classes are the lines of the file.
func (h host) classes() ([]string, error) {
	b, err := readHost(h.config.Classes)
	if err != nil {
		return nil, err
	}
	classes := []string{}
	for line := range strings.Lines(string(b)) {
		classes = append(classes, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	slices.Sort(classes)
	return classes, nil
}

func readHost(file string) ([]byte, error) {
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
