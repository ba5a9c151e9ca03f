// Package pki makes, parses and verifies the fleet's certificates: one CA (ECDSA P-256),
// server certificates for receiver and authority, and client certificates whose common name
// is the host.
//
// It reads files only in Pair and Bundle. It rejects keys and requests that the policy
// forbids; callers decide whether a host may have a certificate.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// backdate is how far before now a certificate starts, for hosts with slow clocks.
const backdate = 7 * 24 * time.Hour

// caLife is the life of a CA.
const caLife = 10 * 365 * 24 * time.Hour

// epoch returns a time before the current time of any working clock. A CA's validity starts
// then: it is trusted because it is pinned, so its start protects nothing, and a start in
// the future (from a clock that was ahead) would make it invalid until then.
func epoch() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// PEM block types.
const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
	csrBlock  = "CERTIFICATE REQUEST"
)

// NewKey makes an ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// EncodeKey returns a key as PKCS #8 in PEM.
func EncodeKey(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// ParseKey parses a key from PEM that may contain other blocks.
func ParseKey(b []byte) (crypto.Signer, error) {
	b, err := disk.Text(b)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case keyBlock:
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("read key: %w", err)
			}
			if s, ok := k.(crypto.Signer); ok {
				return s, nil
			}
			return nil, errors.New("read key: cannot sign")
		case "EC PRIVATE KEY":
			return x509.ParseECPrivateKey(block.Bytes)
		}
	}
	return nil, errors.New("read key: no private key in the file")
}

// EncodeCerts returns certificates as PEM, in order.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw})...)
	}
	return b
}

// ParseCerts parses all certificates from PEM. None is an error.
func ParseCerts(b []byte) ([]*x509.Certificate, error) {
	b, err := disk.Text(b)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certBlock {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("read certificate: none in the file")
	}
	return certs, nil
}

// PinOf returns the sha256 of a certificate, as in join tokens.
func PinOf(c *x509.Certificate) ident.Digest {
	sum := sha256.Sum256(c.Raw)
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// KeyID returns the sha256 of a public key's SubjectPublicKeyInfo, which identifies a key
// across certificates and requests.
func KeyID(pub crypto.PublicKey) (ident.Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("identify key: %w", err)
	}
	sum := sha256.Sum256(der)
	return ident.Digest(hex.EncodeToString(sum[:])), nil
}

// Serial returns a certificate's serial number in hex, as in the ledgers.
func Serial(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

// NewCSR returns a PEM certificate request, signed by its own key.
func NewCSR(k crypto.Signer, h ident.Host) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: string(h)}, DNSNames: []string{string(h)},
	}, k)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: csrBlock, Bytes: der}), nil
}

// ParseCSR parses a request and rejects what the policy forbids: another name, other
// extensions, a weak key, or a signature by another key.
func ParseCSR(b []byte, h ident.Host) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != csrBlock || len(rest) > 0 {
		return nil, errors.New("want exactly one certificate request in PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	// First, because verifying the signature of another kind of key may take seconds.
	if k, ok := r.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("want an ECDSA P-256 key")
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("request is not signed by its own key: %w", err)
	}
	// Count names too: String shows only the last of two common names.
	if r.Subject.String() != "CN="+string(h) || len(r.Subject.Names) != 1 {
		return nil, fmt.Errorf("subject is %.80q, want CN=%s alone", r.Subject.String(), h)
	}
	others := len(r.EmailAddresses) + len(r.IPAddresses) + len(r.URIs)
	if others > 0 || len(r.DNSNames) > 1 || (len(r.DNSNames) == 1 && r.DNSNames[0] != string(h)) {
		return nil, fmt.Errorf("request names more than %s", h)
	}
	for _, e := range r.Extensions {
		if !e.Id.Equal([]int{2, 5, 29, 17}) { // subjectAltName, checked above
			return nil, fmt.Errorf("request asks for extension %s", e.Id)
		}
	}
	return r, nil
}

// Issuer signs certificates with the CA's key.
type Issuer struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewCA makes a CA. Its life starts at now, or at epoch if the clock is behind that.
func NewCA(now time.Time) (Issuer, error) {
	if now.Before(epoch()) {
		now = epoch()
	}
	k, err := NewKey()
	if err != nil {
		return Issuer{}, fmt.Errorf("make CA key: %w", err)
	}
	t := template("cis490 CA "+now.UTC().Format("2006-01-02"), now, caLife)
	authority(t)
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return Issuer{}, fmt.Errorf("make CA: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	return Issuer{c, k}, err
}

// Cross signs the next CA's certificate, so that clients which know only this CA accept the
// next one's certificates until the given time.
func (i Issuer) Cross(next *x509.Certificate, now, until time.Time) (*x509.Certificate, error) {
	t := template(next.Subject.CommonName, now, until.Sub(now))
	authority(t)
	return i.sign(t, next.PublicKey)
}

// authority makes t a CA template. The length of a chain is not limited, because
// cross-signing at each rotation extends it and every key is the fleet's own.
func authority(t *x509.Certificate) {
	t.IsCA, t.BasicConstraintsValid = true, true
	//off:clock_FutureCA
	t.NotBefore = epoch()
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// Client issues a lab host's certificate: CN and SAN are the host, for client
// authentication only.
func (i Issuer) Client(pub crypto.PublicKey, h ident.Host, now time.Time, life time.Duration) (*x509.Certificate, error) {
	t := template(string(h), now, life)
	t.DNSNames = []string{string(h)}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return i.sign(t, pub)
}

// Server issues a server certificate for names and addresses. The first is its common name.
func (i Issuer) Server(pub crypto.PublicKey, names []string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("issue server certificate: no name")
	}
	t := template(names[0], now, life)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	return i.sign(t, pub)
}

func (i Issuer) sign(t *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	if t.NotAfter.After(i.Cert.NotAfter) {
		t.NotAfter = i.Cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, i.Cert, pub, i.Key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func template(cn string, now time.Time, life time.Duration) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] = serial[0]&0x7f | 0x40
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: cn},
		NotBefore:    now.Add(-backdate).UTC(),
		NotAfter:     now.Add(life).UTC(),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}
