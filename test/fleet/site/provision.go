package site

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/choria-io/tokens"

	"logforward/internal/chunk"
)

// provisioning is the collective of nodes that aren't provisioned yet.
const provisioning = "provisioning"

// provisioningPassword lets a provisioner into the broker's account of such nodes, and provisioningSecret lets it
// change them: their token has it.
const provisioningPassword, provisioningSecret = "s3cret", "t0ken"

// Factory makes a node one that was never provisioned: no configuration of Choria Server, no credentials, no policy, but
// the token that says where it is provisioned. What else it has, such as its machines, stays. Its Choria Server
// finds itself in a namespace with a host name of its own, for nothing else tells it who it is.
func (n *Node) Factory() error {
	for _, name := range []string{"server.conf", "token.jwt", "token.seed", "policies"} {
		if err := os.RemoveAll(n.path("etc", name)); err != nil {
			return err
		}
	}
	if err := n.ProvisionByDefault(true); err != nil {
		return err
	}
	if err := n.OwnEtc(); err != nil {
		return err
	}
	err := rewrite(n.path("bin", "choria"), func(script string) string {
		return strings.NewReplacer("--mount sh", "--mount --uts sh", "exec \"$@\"'", "hostname "+n.Identity+" && exec \"$@\"'").Replace(script)
	})
	return errors.Join(err, os.Chmod(n.path("bin", "choria"), 0o755))
}

// ProvisionByDefault issues the token of a node that is to be provisioned; always: whatever its configuration doesn't
// rule out, else only where that asks for it.
func (n *Node) ProvisionByDefault(always bool) error {
	claims, err := tokens.NewProvisioningClaims(false, always, provisioningSecret, "", "", []string{n.site.URL()}, "", "", "", organization, "", validity)
	if err != nil {
		return err
	}
	claims.ProtoV2 = true
	token, err := tokens.SignToken(claims, n.site.authority.issuer)
	if err != nil {
		return err
	}
	return os.WriteFile(n.path("etc", "provisioning.jwt"), []byte(token), 0o600)
}

// AddProvisioner makes a client that reaches nodes which aren't provisioned, and no others.
func (s *Site) AddProvisioner() (*Client, error) {
	return s.AddClient("provisioner", ClientOptions{
		Rights:   tokens.ClientPermissions{ServerProvisioner: true},
		Settings: map[string]string{"collectives": provisioning, "plugin.nats.user": "provisioner", "plugin.nats.pass": provisioningPassword},
	})
}

// Provision does what Choria Provisioner does with a node: has it make a key, issues a token for that, gives it
// its configuration, and has it start anew as one of the fleet.
func (c *Client) Provision(ctx context.Context, n *Node, rights tokens.ServerPermissions, subjects ...string) error {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	var its tokens.ProvisioningClaims
	reply, err := c.provision(ctx, n, "jwt", nil)
	if err != nil {
		return err
	}
	text, _ := reply["jwt"].(string)
	if err := tokens.ParseToken(text, &its, c.site.authority.issuer.Public()); err != nil {
		return fmt.Errorf("its provisioning token: %w", err)
	}
	if reply, err = c.provision(ctx, n, "gen25519", Inputs{"nonce": hex.EncodeToString(nonce)}); err != nil {
		return err
	}
	text, _ = reply["public_key"].(string)
	public, err := hex.DecodeString(text)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("its key %q: %v", text, err)
	}
	text, _ = reply["signature"].(string)
	if signature, err := hex.DecodeString(text); err != nil || !ed25519.Verify(public, []byte(hex.EncodeToString(nonce)), signature) {
		return errors.New("its key isn't what it signs with")
	}
	claims, err := tokens.NewServerClaims(n.Identity, []string{c.site.collective()}, organization, &rights, subjects, public, "", validity)
	if err != nil {
		return err
	}
	token, err := tokens.SignToken(claims, c.site.authority.issuer)
	if err != nil {
		return err
	}
	config := n.serverKeys().with(keys{
		"plugin.security.choria.token_file": n.path("etc", "server.jwt"), "plugin.security.choria.seed_file": n.path("etc", "server.seed"), "plugin.choria.server.provision": "false",
	})
	for _, key := range []string{"plugin.choria.status_file_path", "plugin.choria.status_update_interval", "plugin.choria.submission.spool", "plugin.choria.prometheus_textfile_directory"} {
		delete(config, key) // the agent takes 2048 bytes at most
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(config); err != nil {
		return err
	}
	if _, err := c.provision(ctx, n, "configure", Inputs{"config": strings.TrimSpace(b.String()), "server_jwt": token}); err != nil {
		return err
	}
	_, err = c.provision(ctx, n, "restart", Inputs{"splay": "1"})
	return err
}

// provision asks an action of the agent that provisioning is done by.
func (c *Client) provision(ctx context.Context, n *Node, action string, inputs Inputs) (map[string]any, error) {
	all := Inputs{"token": provisioningSecret}
	for k, v := range inputs {
		all[k] = v
	}
	r, err := c.Request(ctx, "choria_provision", action, all, n)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", action, n.Identity, err)
	}
	reply, ok := r.From(n)
	if !ok {
		return nil, fmt.Errorf("%s of %s: no reply", action, n.Identity)
	}
	return reply.Data, nil
}

// PolicyFile is a document of the node's Choria Server.
func (n *Node) PolicyFile(name string) string {
	return filepath.Join(n.Dir, "etc", "policies", "rego", name)
}

// Token is the node's part of the subjects that it may publish.
func (n *Node) Token() string { return chunk.Token(n.Identity) }
