package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"cis490/internal/disk"
)

// ParsePair parses a PEM file with a chain and its key, and checks that they match. Leaf is
// set.
func ParsePair(b []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, fmt.Errorf("read certificate and key: %w", err)
	}
	return &pair, nil
}

// followed caches a file's parsed content until the file changes.
type followed[T any] struct {
	fsys  disk.FS
	path  string
	parse func([]byte) (T, error)

	mu    sync.Mutex
	stamp stamp
	value T
}

// stamp identifies a state of a file. A rename changes the inode.
type stamp struct {
	info  fs.FileInfo
	mtime time.Time
	size  int64
}

func (f *followed[T]) get() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none T
	fi, err := disk.Stat(f.fsys, f.path)
	if err != nil {
		return none, err
	}
	if s := f.stamp; s.info != nil && disk.SameFile(s.info, fi) && s.mtime.Equal(fi.ModTime()) && s.size == fi.Size() {
		return f.value, nil
	}
	b, err := disk.ReadFile(f.fsys, f.path, disk.Small)
	if err != nil {
		return none, err
	}
	v, err := f.parse(b)
	if err != nil {
		return none, fmt.Errorf("%s: %w", f.path, err)
	}
	f.stamp, f.value = stamp{fi, fi.ModTime(), fi.Size()}, v
	return v, nil
}

// Pair follows a file with a certificate chain and its key, so that a renewed pair is used
// from the next handshake on, without a restart.
type Pair struct{ f followed[*tls.Certificate] }

// NewPair returns the pair at path, which need not exist yet.
func NewPair(fsys disk.FS, path string) *Pair {
	return &Pair{followed[*tls.Certificate]{fsys: fsys, path: path, parse: ParsePair}}
}

// NewPairOf is NewPair for separate files. It reloads when the certificate file changes, so
// write that file last.
func NewPairOf(certificate, key string) *Pair {
	return &Pair{followed[*tls.Certificate]{fsys: disk.OS{}, path: certificate, parse: func(chain []byte) (*tls.Certificate, error) {
		k, err := disk.ReadFile(disk.OS{}, key, disk.Small)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(chain, k)
		if err != nil {
			return nil, fmt.Errorf("read certificate and key %s: %w", key, err)
		}
		return &pair, nil
	}}}
}

// Get returns the file's current pair.
func (p *Pair) Get() (*tls.Certificate, error) { return p.f.get() }

// Bundle follows a file with trusted CA certificates.
type Bundle struct{ f followed[*x509.CertPool] }

// NewBundle returns the bundle at path, which need not exist yet.
func NewBundle(fsys disk.FS, path string) *Bundle {
	return &Bundle{followed[*x509.CertPool]{fsys: fsys, path: path, parse: func(b []byte) (*x509.CertPool, error) {
		certs, err := ParseCerts(b)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		for _, c := range certs {
			pool.AddCert(c)
		}
		return pool, nil
	}}}
}

// Get returns the file's current pool.
func (b *Bundle) Get() (*x509.CertPool, error) { return b.f.get() }

// ServerTLS returns the config of the fleet's listeners: TLS 1.3 and no session tickets,
// because a resumed session skips the certificate. A client certificate is requested
// without a hint and verified by the handlers, so that a rejection can state its reason.
func ServerTLS(pair *Pair) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequestClientCert,
		NextProtos:             []string{"http/1.1"},
		// The chain stays in memory for the life of the connection.
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			if len(chain) > maxChain {
				return errLong
			}
			return nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get() },
	}
}

// ClientTLS returns the config for a connection to a server of the fleet. pair may be nil
// for requests without identity.
func ClientTLS(roots *x509.CertPool, pair *tls.Certificate) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
	if pair != nil {
		// Not Certificates, because those are withheld when the server's hint does not
		// match an older CA.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return c
}
