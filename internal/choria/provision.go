package choria

import (
	"encoding/json"
	"os"
	"strconv"
	"time"
)

// Provisioning tells whether the node's Choria Server is being provisioned: by what it says itself in its status
// file, where that is configured and kept up to date, else by whether its configuration, as it is now, tells it to
// be. Programs that are built for provisioning by default say it in the status file alone.
func (c *Config) Provisioning(now time.Time) (bool, error) {
	keys, err := readKeys(c.File) // provisioning is what rewrites it
	if err != nil {
		return false, err
	}
	if is, ok := provisioningBy(keys["plugin.choria.status_file_path"], keys["plugin.choria.status_update_interval"], now); ok {
		return is, nil
	}
	return yes(keys["plugin.choria.server.provision"]), nil
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
