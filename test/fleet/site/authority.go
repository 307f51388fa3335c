package site

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/choria-io/tokens"
)

// validity of all that is issued here; no site lives longer.
const validity = 24 * time.Hour

// organization is the unit that tokens belong to, the only one that Choria's broker has without chains.
const organization = "choria"

// authority issues what proves who somebody is: certificates always, for the broker speaks TLS alone,
// and tokens where these are the site's security.
type authority struct {
	dir    string
	key    *rsa.PrivateKey
	cert   *x509.Certificate
	issuer ed25519.PrivateKey
}

func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &authority{dir: dir}
	var err error
	if a.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil { // Choria's classic security knows RSA alone
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "logforward test fleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := a.sign(template, template, a.key.Public(), a.ca()); err != nil {
		return nil, err
	}
	if a.cert, err = readCertificate(a.ca()); err != nil {
		return nil, err
	}
	if _, a.issuer, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	return a, nil
}

// OtherAuthority makes a certificate authority that vouches for nobody of a site, and gives its file.
func OtherAuthority(dir string) (string, error) {
	a, err := newAuthority(dir)
	if err != nil {
		return "", err
	}
	return a.ca(), nil
}

// ca is the file with the authority's own certificate.
func (a *authority) ca() string { return filepath.Join(a.dir, "ca.pem") }

// public is the key that tokens are verified with, as Choria's configuration has it.
func (a *authority) public() string {
	return hex.EncodeToString(a.issuer.Public().(ed25519.PublicKey))
}

// Issue gives a directory what the issuer of a site's tokens has, as choria jwt keys writes it: issuer.seed and issuer.public.
func (s *Site) Issue(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "issuer.seed"), []byte(hex.EncodeToString(s.authority.issuer.Seed())), 0o600),
		os.WriteFile(filepath.Join(dir, "issuer.public"), []byte(s.authority.public()), 0o600))
}

// CA is the file with the certificate of a site's authority.
func (s *Site) CA() string { return s.authority.ca() }

func (a *authority) sign(template, parent *x509.Certificate, public crypto.PublicKey, file string) error {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", file, err)
	}
	return writePEM(file, "CERTIFICATE", der)
}

// certificate issues one, for use on both sides, to dir/cert.pem and dir/key.pem.
func (a *authority) certificate(dir, name string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{name},
	}
	if name == brokerName {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if err := a.sign(template, a.cert, key.Public(), filepath.Join(dir, "cert.pem")); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "key.pem"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

// serverToken issues a server's JWT and its seed to dir/token.jwt and dir/token.seed.
func (a *authority) serverToken(dir, identity string, collectives, subjects []string, rights tokens.ServerPermissions) error {
	public, seed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	claims, err := tokens.NewServerClaims(identity, collectives, organization, &rights, subjects, public, "", validity)
	if err != nil {
		return fmt.Errorf("token of %s: %w", identity, err)
	}
	signed, err := tokens.SignToken(claims, a.issuer)
	if err != nil {
		return fmt.Errorf("token of %s: %w", identity, err)
	}
	return save(dir, signed, seed)
}

// clientToken issues a client's.
func (a *authority) clientToken(dir, caller, policy string, publish, subscribe []string, rights tokens.ClientPermissions) error {
	public, seed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	claims, err := tokens.NewClientIDClaims(caller, nil, organization, nil, policy, "", validity, &rights, public)
	if err != nil {
		return fmt.Errorf("token of %s: %w", caller, err)
	}
	claims.AdditionalPublishSubjects, claims.AdditionalSubscribeSubjects = publish, subscribe
	signed, err := tokens.SignToken(claims, a.issuer)
	if err != nil {
		return fmt.Errorf("token of %s: %w", caller, err)
	}
	return save(dir, signed, seed)
}

// save writes a token and its key's seed where Choria's configuration names them.
func save(dir, signed string, key ed25519.PrivateKey) error {
	if err := os.WriteFile(filepath.Join(dir, "token.jwt"), []byte(signed), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "token.seed"), []byte(hex.EncodeToString(key.Seed())), 0o600)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func readCertificate(file string) (*x509.Certificate, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return x509.ParseCertificate(block.Bytes)
}
