package server

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"

	"cis490/internal/pki"
)

// keptPair is the server's certificate: the file's or, while the file is missing or
// damaged, the last one.
type keptPair struct {
	pair *pki.Pair
	last atomic.Pointer[tls.Certificate]
}

// get returns the certificate to use. The error is why there is no newer one.
func (k *keptPair) get() (*tls.Certificate, error) {
	c, err := k.pair.Get()
	if err != nil {
		return k.last.Load(), err
	}
	k.last.Store(c)
	return c, nil
}

// certificate returns the server's certificate; nil behind a proxy, or while there is none, as
// /readyz reports.
func (s *Server) certificate() *x509.Certificate {
	if s.pair == nil {
		return nil
	}
	if cert, _ := s.pair.get(); cert != nil {
		return cert.Leaf
	}
	return nil
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
