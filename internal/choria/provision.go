package choria

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/tokens"
)

// provisioningToken lies beside the configuration of a node that Choria's own packages provision.
const provisioningToken = "provisioning.jwt"

// Provisioning tells whether the node's Choria Server is being provisioned: by what it says itself in its status
// file, where that is configured and kept up to date, else as it finds it out when it starts: by its configuration as it
// is now, and where that says nothing, or isn't there, by the token for provisioning.
func (c *Config) Provisioning(now time.Time) (bool, error) {
	keys, err := readKeys(c.File) // provisioning is what rewrites it
	if errors.Is(err, fs.ErrNotExist) {
		return Unprovisioned(c.File), nil
	}
	if err != nil {
		return false, err
	}
	if is, ok := provisioningBy(keys["plugin.choria.status_file_path"], keys["plugin.choria.status_update_interval"], now); ok {
		return is, nil
	}
	if said, ok := keys["plugin.choria.server.provision"]; ok {
		return yes(said), nil
	}
	return provisionedByDefault(filepath.Join(filepath.Dir(c.File), provisioningToken))
}

// Unprovisioned tells of a configuration file that isn't there whether that is because the node wasn't provisioned yet.
func Unprovisioned(file string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(file), provisioningToken))
	return err == nil
}

// provisionedByDefault tells whether a token makes Choria Server be provisioned unless it is told otherwise. Who signed
// it is for the broker to verify: to the node it is configuration.
func provisionedByDefault(file string) (bool, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("provisioning token: %w", err)
	}
	claims, err := tokens.ParseProvisionTokenUnverified(strings.TrimSpace(string(b)))
	if err != nil {
		return false, fmt.Errorf("provisioning token %s: %w", file, err)
	}
	return claims.ProvDefault, nil
}

// provisioningBy reads a status file; ok is false where there is none that is kept up to date.
func provisioningBy(file, interval string, now time.Time) (is, ok bool) {
	every := 30 // seconds, Choria's default
	if n, err := strconv.Atoi(interval); err == nil && n > 0 {
		every = n
	}
	info, err := os.Stat(file)
	if file == "" || err != nil || now.Sub(info.ModTime()) > 3*time.Duration(every)*time.Second || info.Size() > maxFile {
		return false, false
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return false, false
	}
	var status struct {
		Provisioning *bool `json:"provisioning_mode"`
	}
	if json.Unmarshal(b, &status) != nil || status.Provisioning == nil {
		return false, false
	}
	return *status.Provisioning, true
}
