package site

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
)

// keys are a configuration in Choria's format, one key = value a line.
type keys map[string]string

// with gives the keys with others on top.
func (k keys) with(others keys) keys {
	all := make(keys, len(k)+len(others))
	maps.Copy(all, k)
	maps.Copy(all, others)
	return all
}

func (k keys) write(file string) error {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(k)) {
		fmt.Fprintf(&b, "%s = %s\n", key, k[key])
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}
