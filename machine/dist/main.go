// Command dist makes what brings logforward to nodes through a key-value bucket: archives of the program with its
// Choria agent and its autonomous agents, and the signed specification that Choria's plugins watcher takes.
//
//	logforward-VERSION-linux-amd64.tar.gz   logforward/: program, machine.yaml, lib/ with the Choria agent
//	logforward_check-VERSION.tar.gz         logforward_check/: the Scout check
//	logforward_metrics-VERSION.tar.gz       logforward_metrics/: numbers as events and for Prometheus; only with --metrics
//	logforward_policy-DIGEST.tar.gz         logforward_policy/: the operators' table, and what puts it into force; only with --policy
//	SHA256SUMS                              of all of them
//	plugins.json                            the specification as choria machine plugins has it
//	plugins.spec                            the same, signed: the bucket's value
//	logforward_plugins/                     the machine that reads the bucket, with the public key
//
// In each archive SHA256SUMS covers all its files; nodes verify it at each look. Archives of the same input are the same bytes.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/choria-io/fisk"

	operators "logforward/internal/policy/table"
)

// options are the command line.
type options struct {
	root, out, program, version, platform, url, key, match, governor, policy string
	remove, metrics, others                                                  bool
}

func main() {
	var o options
	app := fisk.New("dist", "Make archives and the signed specification for Choria's plugins watcher")
	app.Flag("root", "The repository").Default(".").StringVar(&o.root)
	app.Flag("out", "Directory that is written").Default("dist").StringVar(&o.out)
	app.Flag("program", "logforward, built for the nodes").Default("bin/logforward").StringVar(&o.program)
	app.Flag("release", "Version in the names of archives").Default("devel").StringVar(&o.version)
	app.Flag("platform", "That the program is built for").Default("linux-amd64").StringVar(&o.platform)
	app.Flag("url", "Where the nodes will find the archives").Default("http://localhost/logforward").StringVar(&o.url)
	app.Flag("key", "File with the ed25519 seed, in hex, to sign with; it is made if it isn't there").Required().StringVar(&o.key)
	app.Flag("match", "Expression that a node must fulfil: identity(regex), has_file(path), has_directory(path), has_command(name)").StringVar(&o.match)
	app.Flag("governor", "Choria Governor that bounds how many nodes install at once").StringVar(&o.governor)
	app.Flag("metrics", "With the machine logforward_metrics; where Choria is 0.30, removing it hangs the server's machines until a restart").UnNegatableBoolVar(&o.metrics)
	app.Flag("policy", "The operators' table that nodes decide by; without it their policy is left alone").PlaceHolder("FILE").StringVar(&o.policy)
	app.Flag("policy-default", "The table's document for all other agents as well, default.rego").UnNegatableBoolVar(&o.others)
	app.Flag("remove", "Make a specification without plugins, which removes them from the nodes").UnNegatableBoolVar(&o.remove)
	if _, err := app.Parse(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(2)
	}
	if err := o.make(); err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

// plugin is one entry of the specification.
type plugin struct {
	Name           string `json:"name"`
	Source         string `json:"source"`
	VerifyChecksum string `json:"verify_checksum"` // SHA-256 of the archive's SHA256SUMS
	Checksum       string `json:"checksum"`        // SHA-256 of the archive
	Match          string `json:"match,omitempty"`
	Governor       string `json:"governor,omitempty"`
}

func (o *options) make() error {
	key, err := o.seed()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	plugins := []plugin{}
	if !o.remove {
		if plugins, err = o.archives(); err != nil {
			return err
		}
	}
	list, err := json.MarshalIndent(plugins, "", "  ")
	if err != nil {
		return err
	}
	encoded := base64.StdEncoding.EncodeToString(list)
	spec, err := json.Marshal(map[string]string{"plugins": encoded, "signature": hex.EncodeToString(ed25519.Sign(key, []byte(encoded)))})
	if err != nil {
		return err
	}
	public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
	machine, err := os.ReadFile(filepath.Join(o.root, "machine", "logforward_plugins", "machine.yaml"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(o.out, "logforward_plugins"), 0o755); err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(o.out, "plugins.json"), append(list, '\n'), 0o644),
		os.WriteFile(filepath.Join(o.out, "plugins.spec"), spec, 0o644),
		os.WriteFile(filepath.Join(o.out, "logforward_plugins", "machine.yaml"), []byte(strings.ReplaceAll(string(machine), "PUBLIC_KEY", public)), 0o644),
	)
	if err == nil {
		fmt.Printf("%d plugins in %s, signed with %s; its public key is %s\n", len(plugins), filepath.Join(o.out, "plugins.spec"), o.key, public)
	}
	return err
}

// archive is one of them: its only directory, its name, what is in it.
type archive struct {
	name, file string
	files      []member
}

// archives makes them, and tells of each.
func (o *options) archives() ([]plugin, error) {
	agent := filepath.Join("lib", "mcollective", "agent")
	all := []archive{
		{"logforward", fmt.Sprintf("logforward-%s-%s.tar.gz", o.version, o.platform), []member{
			{path: "machine.yaml", from: filepath.Join(o.root, "machine", "logforward", "machine.yaml"), mode: 0o644},
			{path: "logforward", from: o.program, mode: 0o755},
			{path: filepath.Join(agent, "logforward.json"), from: filepath.Join(o.root, "ddl", "logforward.json"), mode: 0o644},
			{path: filepath.Join(agent, "logforward.ddl"), from: filepath.Join(o.root, "ddl", "logforward.ddl"), mode: 0o644},
			{path: filepath.Join(agent, "logforward"), text: agentScript, mode: 0o755},
			{path: "LICENSE", from: filepath.Join(o.root, "LICENSE"), mode: 0o644},
		}},
		{"logforward_check", fmt.Sprintf("logforward_check-%s.tar.gz", o.version), []member{
			{path: "machine.yaml", from: filepath.Join(o.root, "machine", "logforward_check", "machine.yaml"), mode: 0o644},
		}},
	}
	if o.metrics {
		all = append(all, archive{"logforward_metrics", fmt.Sprintf("logforward_metrics-%s.tar.gz", o.version), []member{
			{path: "machine.yaml", from: filepath.Join(o.root, "machine", "logforward_metrics", "machine.yaml"), mode: 0o644},
		}})
	}
	if o.policy != "" {
		a, err := o.table()
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	var plugins []plugin
	var sums strings.Builder
	for _, a := range all {
		p := plugin{Name: a.name, Source: strings.TrimSuffix(o.url, "/") + "/" + a.file, Match: o.match, Governor: o.governor}
		var err error
		if p.Checksum, p.VerifyChecksum, err = pack(filepath.Join(o.out, a.file), a.name, a.files); err != nil {
			return nil, fmt.Errorf("%s: %w", a.file, err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", p.Checksum, a.file)
		plugins = append(plugins, p)
	}
	return plugins, os.WriteFile(filepath.Join(o.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// table is the archive of the operators' table. It has no version but what is in it: a policy changes without a release.
func (o *options) table() (archive, error) {
	text, err := os.ReadFile(o.policy)
	if err != nil {
		return archive{}, fmt.Errorf("policy: %w", err)
	}
	t, err := operators.Parse(o.policy, text)
	if err != nil {
		return archive{}, fmt.Errorf("policy: %w", err)
	}
	documents := fmt.Sprintln(operators.ForChoria, operators.Agent+".rego")
	if o.others {
		documents += fmt.Sprintln(operators.ForDefault, "default.rego")
	}
	for _, which := range []operators.Document{operators.ForChoria, operators.ForDefault} {
		if _, err := t.Render(which); err != nil {
			return archive{}, fmt.Errorf("policy %s: %w", o.policy, err)
		}
	}
	digest := sha256.Sum256([]byte(string(text) + documents))
	from := filepath.Join(o.root, "machine", "logforward_policy")
	return archive{"logforward_policy", fmt.Sprintf("logforward_policy-%x.tar.gz", digest[:6]), []member{
		{path: "machine.yaml", from: filepath.Join(from, "machine.yaml"), mode: 0o644},
		{path: "place", from: filepath.Join(from, "place"), mode: 0o755},
		{path: "operators.yaml", text: string(text), mode: 0o644},
		{path: "documents", text: documents, mode: 0o644},
	}}, nil
}

// agentScript is the Choria agent: the program that lies beside the machine.
const agentScript = `#!/bin/sh
exec "${0%/*}/../../../logforward" "$@"
`

// seed reads the key to sign with, or makes it.
func (o *options) seed() (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(o.key)
	if errors.Is(err, os.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		fmt.Printf("%s is a new key: keep it secret, and for good\n", o.key)
		return key, os.WriteFile(o.key, []byte(hex.EncodeToString(key.Seed())), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("key %s: want an ed25519 seed of %d bytes in hex", o.key, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
