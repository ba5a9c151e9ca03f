package enroll

import (
	"crypto/x509"

	"cis490/agent/client"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// ServerFile has a receiver's certificate and key, in its copy of the authority's folder.
const ServerFile = "server.pem"

// server reports whether this is a receiver.
func (e *Enroller) server() bool { return e.o.Serves != "" }

// pairFile returns the name of the file with certificate and key.
func (e *Enroller) pairFile() string {
	if e.server() {
		return ServerFile
	}
	return client.PairFile
}

// certPath returns the path of requests for a certificate.
func (e *Enroller) certPath() string {
	path := wire.CertPrefix + string(e.o.Host)
	if e.server() {
		path += wire.ServerSuffix
	}
	return path
}

// joinFix returns the command that brings a new join token.
func (e *Enroller) joinFix() string {
	if e.server() {
		return wire.FixFor(wire.AnswerOf(wire.NotInvited).Fix, string(e.o.Host))
	}
	return "on the receiver: sudo cis490 token create " + string(e.o.Host) + ", then paste what it prints on this machine"
}

func (e *Enroller) parseToken(text string) (wire.Token, error) {
	if e.server() {
		return wire.ParseServerToken(text)
	}
	return wire.ParseToken(text)
}

// verify returns the host or receiver that a chain is for. The error may be pki.ErrValidity.
func (e *Enroller) verify(chain []*x509.Certificate, roots *x509.CertPool) (ident.Host, error) {
	if e.server() {
		return e.o.Host, pki.VerifyServer(chain, roots, e.o.Serves, e.o.Now())
	}
	return pki.VerifyClient(chain, roots, e.o.Now())
}
