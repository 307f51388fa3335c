package choria

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is what this package needs of a Choria configuration file, server.conf or client.conf.
type Config struct {
	File       string
	Identity   string // the node's name as Choria knows it
	Collective string // main collective
	Provider   string // security provider: choria, puppet or file
	Facts      string // files, parted by colons; empty: none
	TextFiles  string // directory of files for Prometheus' node exporter; empty: none
	Classes    string // file

	Hosts     []string // of brokers, as configured; empty: found by SRV records, or puppet:4222
	UseSRV    bool
	SRVDomain string

	CA, Certificate, Key string // files; for choria CA alone, and that may be empty
	Token, Seed          string // files, for choria
}

// maxFile bounds what is read of a configuration file.
const maxFile = 1 << 20

// Load reads a configuration file. What it names is not opened yet.
func Load(file string) (*Config, error) {
	keys, err := readKeys(file)
	if err != nil {
		return nil, err
	}
	return interpret(file, keys)
}

func readKeys(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("choria configuration: %w", err)
	}
	defer f.Close()
	keys := map[string]string{}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(make([]byte, 64<<10), maxFile)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		key, value, ok := strings.Cut(line, "=")
		if line == "" || strings.HasPrefix(line, "#") || !ok {
			continue
		}
		keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("choria configuration %s: %w", file, err)
	}
	return keys, nil
}

// interpret gives keys their meaning and defaults, which are those of Choria's config package.
func interpret(file string, keys map[string]string) (*Config, error) {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	c := &Config{
		File: file, Identity: keys["identity"], Provider: or(keys["plugin.security.provider"], "puppet"),
		Facts: keys["plugin.yaml"], TextFiles: keys["plugin.choria.prometheus_textfile_directory"], Classes: or(keys["classesfile"], "/opt/puppetlabs/puppet/cache/state/classes.txt"),
		Hosts: list(keys["plugin.choria.middleware_hosts"]), SRVDomain: keys["plugin.choria.srv_domain"],
		UseSRV: !slices.Contains([]string{"0", "no", "n", "false", "f"}, strings.ToLower(keys["plugin.choria.use_srv"])),
	}
	if len(list(keys["plugin.choria.federation.collectives"])) > 0 {
		c.Hosts = list(keys["plugin.choria.federation_middleware_hosts"])
	}
	if c.Identity == "" {
		name, err := hostname()
		if err != nil {
			return nil, fmt.Errorf("choria configuration %s: it names no identity, and %w", file, err)
		}
		c.Identity = name
	}
	collectives := list(or(keys["collectives"], "mcollective"))
	c.Collective = or(keys["main_collective"], collectives[0])
	if !plain(c.Collective) {
		return nil, fmt.Errorf("choria configuration %s: main_collective %q: letters, digits, _ and - only", file, c.Collective)
	}
	switch c.Provider {
	case "choria":
		dir := filepath.Dir(file)
		c.CA = keys["plugin.security.choria.ca"]
		c.Token = or(keys["plugin.security.choria.token_file"], or(keys["plugin.choria.security.server.token_file"], filepath.Join(dir, "server.jwt")))
		c.Seed = or(keys["plugin.security.choria.seed_file"], or(keys["plugin.choria.security.server.seed_file"], filepath.Join(dir, "server.seed")))
	case "file":
		c.CA, c.Certificate, c.Key = keys["plugin.security.file.ca"], keys["plugin.security.file.certificate"], keys["plugin.security.file.key"]
		if c.CA == "" || c.Certificate == "" || c.Key == "" {
			return nil, fmt.Errorf("choria configuration %s: security provider file needs plugin.security.file.ca, .certificate and .key", file)
		}
	case "puppet":
		ssl := or(keys["plugin.choria.ssldir"], "/etc/puppetlabs/puppet/ssl")
		c.CA = filepath.Join(ssl, "certs", "ca.pem")
		c.Certificate = filepath.Join(ssl, "certs", c.Identity+".pem")
		c.Key = filepath.Join(ssl, "private_keys", c.Identity+".pem")
	default:
		return nil, fmt.Errorf("choria configuration %s: security provider %q is not supported: choria, puppet or file are", file, c.Provider)
	}
	return c, nil
}

// yes reads a boolean as Choria does.
func yes(s string) bool {
	return slices.Contains([]string{"1", "yes", "true", "y", "t"}, strings.ToLower(s))
}

func list(s string) (items []string) {
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// plain tells whether a text may stand in a subject as it is.
func plain(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}

// lookupTime bounds each question to the name service.
const lookupTime = 3 * time.Second

func hostname() (string, error) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "", fmt.Errorf("the host's name can't be had (%w)", err)
	}
	if strings.Contains(host, ".") {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	if name, err := net.DefaultResolver.LookupCNAME(ctx, host); err == nil && strings.HasPrefix(name, host+".") {
		return strings.TrimSuffix(name, "."), nil
	}
	return host, nil
}

// Brokers are the URLs of the brokers, as Choria finds them: those that are configured; else by the SRV
// records _mcollective-server._tcp and _x-puppet-mcollective._tcp of the domain; else puppet:4222. They
// are always TLS.
func (c *Config) Brokers(ctx context.Context) ([]string, error) {
	if len(c.Hosts) > 0 {
		return urls(c.Hosts)
	}
	if c.UseSRV {
		domain := c.SRVDomain
		if domain == "" {
			if _, d, ok := strings.Cut(c.Identity, "."); ok {
				domain = d
			}
		}
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		defer cancel()
		for _, service := range []string{"_mcollective-server._tcp.", "_x-puppet-mcollective._tcp."} {
			if domain == "" {
				break
			}
			_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", service+domain)
			if err != nil || len(records) == 0 {
				continue
			}
			var found []string
			for _, r := range records {
				found = append(found, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port)))
			}
			return urls(found)
		}
	}
	return urls([]string{"puppet:4222"})
}

func urls(hosts []string) ([]string, error) {
	var all []string
	for _, h := range hosts {
		if !strings.Contains(h, "://") {
			h = "nats://" + h
		}
		u, err := url.Parse(h)
		if err != nil || u.Hostname() == "" {
			return nil, fmt.Errorf("plugin.choria.middleware_hosts: %q is no host:port", h)
		}
		switch u.Scheme {
		case "nats", "tls":
			u.Scheme = "tls"
		case "ws", "wss":
			u.Scheme = "wss"
		default:
			return nil, fmt.Errorf("plugin.choria.middleware_hosts: scheme of %q; want nats or wss", h)
		}
		if u.Port() == "" && u.Scheme == "tls" {
			u.Host = net.JoinHostPort(u.Hostname(), "4222")
		}
		all = append(all, u.String())
	}
	return all, nil
}

// read reads a small file that the configuration names.
func (c *Config) read(what, file string) ([]byte, error) {
	if file == "" {
		return nil, fmt.Errorf("choria configuration %s: no %s is configured", c.File, what)
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("choria %s: %w (%s names it)", what, err, c.File)
	case err != nil:
		return nil, fmt.Errorf("choria %s: %w", what, err)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("choria %s %s: %d bytes; at most %d", what, file, info.Size(), maxFile)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("choria %s: %w", what, err)
	}
	return bytes.TrimSpace(b), nil
}
