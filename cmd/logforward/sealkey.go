package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/choria-io/fisk"

	"logforward/internal/forward"
	"logforward/internal/seed"
	"logforward/internal/settings"
)

// sealKey is what seal-key prints with --json.
type sealKey struct {
	Identity string `json:"identity"`   // of the node
	Key      string `json:"public_key"` // 64 hex digits
	File     string `json:"file"`       // path of the file that has the secret one
}

func (p *program) sealKeyCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "seal-key", "Print the public key by which this node seals its logs", `
Prints one line, the node's identity and its public key, as logforward verify --seal-keys takes it at
the centre. Have it brought there by another way than through the centre's own hands, else whoever
holds the centre could put their own key in its place. The daemon makes the key when it first needs
it (destination.<name>.seal = yes); nothing is made here.

    logforward seal-key
    ssh web1.example.net logforward seal-key >> seal-keys
`, func(context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		identity := v.Text("identity")
		if identity == "" { // else the brokers needn't be looked for
			_, configs, err := v.destinations()
			if err != nil {
				return misconfigured(err)
			}
			if identity, err = v.identity(configs); err != nil {
				return misconfigured(err)
			}
		}
		if strings.HasPrefix(identity, "#") || strings.ContainsFunc(identity, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			return misconfigured(fmt.Errorf("identity %q can't stand in a line of keys", identity))
		}
		key, path, err := v.sealKey()
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: the daemon makes it when it first starts with destination.<name>.seal = yes", err)
		}
		if err != nil {
			return misconfigured(err)
		}
		public := hex.EncodeToString(key.Public().(ed25519.PublicKey))
		if p.json {
			return p.print(sealKey{identity, public, path})
		}
		fmt.Fprintf(p.out, "%s %s\n", identity, public)
		return nil
	})
	set = p.settings(c, settings.Forward)
}

// sealKey reads the key as the daemon would, and says where it is.
func (v *values) sealKey() (key ed25519.PrivateKey, path string, err error) {
	if path = v.Text("seal_key"); path == "" {
		path = filepath.Join(v.Text("state"), forward.SealKeyFile)
	}
	u, err := daemonUser(settings.Forward, v.Text("state"))
	if err != nil {
		return nil, path, fmt.Errorf("as whom the daemon runs can't be told: %w", err)
	}
	read := func() (err error) { key, err = seed.Load(path, u.uid); return err }
	if u.all {
		err = read()
	} else {
		err = u.do(read)
	}
	return key, path, err
}

// sealKey: a broken one stops nothing, but logs go out unsealed.
func (v *validation) sealKey(values *values, c forward.Config) {
	sealed := false
	for _, d := range c.Destinations {
		sealed = sealed || d.Seal
	}
	if !sealed {
		return
	}
	key, path, err := values.sealKey()
	switch {
	case err == nil:
		v.ok("seal key", "%s; public key %s", path, hex.EncodeToString(key.Public().(ed25519.PublicKey)))
	case errors.Is(err, fs.ErrNotExist) && seed.Makes(path):
		v.newSealKey(values, path)
	default:
		v.fail("seal key", err, "until it is mended logs go out unsealed; forwarding goes on")
	}
}

// newSealKey tells whether the daemon may make the key.
func (v *validation) newSealKey(values *values, path string) {
	dir := filepath.Dir(path)
	if dir == filepath.Clean(values.Text("state")) {
		v.ok("seal key", "%s will be made", path)
		return
	}
	_, err := os.Stat(dir)
	if u, uerr := daemonUser(settings.Forward, values.Text("state")); err == nil && uerr == nil {
		err = writable(dir, u)
	}
	if err != nil {
		v.fail("seal key", fmt.Errorf("%s is not there and can't be made: %w", path, err), "put a key there, or name another seal_key; until then logs go out unsealed")
		return
	}
	v.ok("seal key", "%s will be made", path)
}
