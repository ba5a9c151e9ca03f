package server

import (
	"crypto/tls"
	"path/filepath"
	"sync/atomic"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/pki"
)

// keptPair is the server's certificate: as its file has it, and while the file
// is gone or broken as it was last.
type keptPair struct {
	pair *pki.Pair
	last atomic.Pointer[tls.Certificate]
}

func newPair(fsys disk.FS, c config.Receiver) *keptPair {
	if c.TLS.Certificate != "" {
		return &keptPair{pair: pki.NewPairOf(c.TLS.Certificate, c.TLS.Key)}
	}
	return &keptPair{pair: pki.NewPair(fsys, filepath.Join(c.Authority.Dir, "server.pem"))}
}

// get returns the certificate to use; the error tells why there is no newer one.
func (k *keptPair) get() (*tls.Certificate, error) {
	c, err := k.pair.Get()
	if err != nil {
		return k.last.Load(), err
	}
	k.last.Store(c)
	return c, nil
}

func newTrust(fsys disk.FS, c config.Receiver) *pki.Bundle {
	return pki.NewBundle(fsys, filepath.Join(c.Authority.Dir, "trust.pem"))
}

func (s *Server) tlsConfig() *tls.Config {
	c := pki.ServerTLS(s.pair.pair)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := s.pair.get()
		if cert == nil {
			return nil, err
		}
		return cert, nil
	}
	return c
}
