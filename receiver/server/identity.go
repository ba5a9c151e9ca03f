package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// identify returns the calling host. named is the host in the path, or "". The
// certificate decides; path, header and bearer must agree with it. It records rejected
// requests.
func (s *Server) identify(r *http.Request, named ident.Host) (ident.Host, error) {
	host, verified, err := s.verify(r, named)
	n := requestOf(r)
	n.host, n.verified = host, verified
	if err != nil {
		listen.Unverified(r.Context())
		s.authFailed(r, n, named, err)
		return "", err
	}
	n.identified = true
	listen.Verified(r.Context(), "host "+string(host), s.hostConns())
	return host, nil
}

// verify is identify without recording. verified reports that the certificate chain is
// valid, even if there is an error; otherwise host is only the name that the client gave.
func (s *Server) verify(r *http.Request, named ident.Host) (host ident.Host, verified bool, err error) {
	claim := named
	if h, err := ident.ParseHost(r.Header.Get(wire.HeaderHost)); err == nil && claim == "" {
		claim = h
	}
	now := s.o.Now()
	pool, err := s.trust.Get()
	if err != nil {
		return claim, false, refuse(wire.NewProblem(wire.NotReady, "no trusted CA is loaded yet"), err)
	}
	chain, err := s.chain(r)
	if err != nil {
		return claim, false, refuse(wire.NewProblem(wire.Unauthorized, "the client certificate passed by the proxy cannot be read"), err)
	}
	if host, err = verdictOf(r).on(chain, pool); err == nil {
		err = pki.CheckValidity(chain[0], now)
	}
	switch {
	case errors.Is(err, pki.ErrNoCert):
		return claim, false, wire.NewProblem(wire.Unauthorized, "no client certificate was sent")
	case errors.Is(err, pki.ErrValidity):
		return host, true, wire.NewProblem(wire.CertExpired, "%s; the receiver's clock is %s", err, plain.Time(now))
	case err != nil:
		return claim, false, refuse(wire.NewProblem(wire.Unauthorized, "client certificate is not from this fleet's CA"), err)
	}
	entry, known, err := s.o.Roster.Host(host)
	switch {
	case err != nil:
		return host, true, refuse(wire.NewProblem(wire.NotReady, "the roster cannot be read now"), err)
	case !known:
		return host, true, wire.NewProblem(wire.UnknownHost, "host %s is not in the roster", host)
	case entry.State == roster.Gone:
		return host, true, wire.NewProblem(wire.Decommission, "%s was decommissioned at %s", host, plain.Time(entry.Since))
	case entry.State == roster.Pending:
		return host, true, wire.NewProblem(wire.CertRevoked,
			"serial %s of %s is revoked: the host has not enrolled again", pki.Serial(chain[0]), host)
	case !entry.Valid(pki.Serial(chain[0])):
		return host, true, wire.NewProblem(
			wire.CertRevoked, "serial %s of %s is revoked: a newer enrollment replaced it", pki.Serial(chain[0]), host,
		)
	//off:16_StolenToken
	case named != "" && named != host:
		return host, true, wire.NewProblem(wire.OtherHost, "the certificate is of host %s, the path of %s", host, named)
	}
	switch sent := r.Header.Values(wire.HeaderHost); {
	case len(sent) > 1:
		return host, true, wire.NewProblem(wire.Malformed, "header %s was sent %d times", wire.HeaderHost, len(sent))
	case len(sent) == 1 && sent[0] != string(host):
		return host, true, wire.NewProblem(wire.OtherHost, "the certificate is of host %s, header %s has %.80q", host, wire.HeaderHost, sent[0])
	}
	if !bearerIs(r, entry.Bearer) {
		return host, true, wire.NewProblem(wire.BadBearer, "the bearer is not the one issued to %s at its enrollment", host)
	}
	if !requestOf(r).identified { // once for each request
		s.contacts.Heard(host, s.from(r), pki.Serial(chain[0]), chain[0].NotAfter)
	}
	return host, true, nil
}

// authFailed records a request that was not authenticated, of a host or of an unknown
// client.
func (s *Server) authFailed(r *http.Request, n *request, named ident.Host, err error) {
	p := problemOf(err)
	if p.Status >= 500 {
		return // a fault of the receiver, not of the client
	}
	if _, known, err := s.o.Roster.Host(n.host); n.host != "" && known && err == nil {
		n.known = true
		s.contacts.AuthFailed(n.host, n.verified, s.from(r), p)
		return
	}
	s.contacts.UnknownClient(string(cmp.Or(n.host, named)), s.from(r), p)
}

// bearerIs compares in constant time. Without a stored bearer it returns false.
func bearerIs(r *http.Request, want ident.Digest) bool {
	sent := r.Header.Values("Authorization")
	if len(sent) != 1 || want == "" {
		return false
	}
	token, ok := strings.CutPrefix(sent[0], "Bearer ")
	sum := sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(want)) == 1
}

// chain returns the client's certificates, leaf first: those of the TLS connection, or
// behind a proxy those of the proxy's header. On a direct listener the header is ignored.
func (s *Server) chain(r *http.Request) ([]*x509.Certificate, error) {
	if s.o.Config.TLS.Mode != "proxy" {
		if r.TLS == nil {
			return nil, nil
		}
		return r.TLS.PeerCertificates, nil
	}
	sent := r.Header.Values(s.o.Config.TLS.ClientHeader)
	switch {
	case len(sent) == 0 || len(sent) == 1 && sent[0] == "":
		return nil, nil
	case len(sent) > 1:
		return nil, fmt.Errorf("header %s was sent %d times", s.o.Config.TLS.ClientHeader, len(sent))
	}
	text := sent[0]
	if strings.Contains(text, "%") { // nginx: URL-encoded PEM
		plain, err := url.PathUnescape(text) // keeps +, which base64 uses
		if err != nil {
			return nil, fmt.Errorf("decode client certificate: %w", err)
		}
		text = plain
	}
	if strings.HasPrefix(text, "-----BEGIN") {
		return pki.ParseCerts([]byte(text))
	}
	der, err := base64.StdEncoding.DecodeString(strings.Trim(text, ":")) // Caddy: DER in base64; RFC 9440 adds colons
	if err != nil {
		return nil, fmt.Errorf("decode client certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	return []*x509.Certificate{c}, nil
}

// from returns the client's address, for logs and for limits by address.
func (s *Server) from(r *http.Request) string {
	if s.o.Config.TLS.Mode == "proxy" {
		return forwardedFor(r.Header.Values("X-Forwarded-For"))
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// forwardedFor returns the address that the proxy added: the last value of the last line,
// because a client can send all others. It returns "" if that is not an address. It
// removes the port, which differs between connections.
func forwardedFor(lines []string) string {
	last := strings.Join(lines, ",")
	last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	if p, err := netip.ParseAddrPort(last); err == nil {
		return p.Addr().Unmap().WithZone("").String()
	}
	a, err := netip.ParseAddr(strings.Trim(last, "[]"))
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// verdict caches the verification of a connection's certificate chain, so that further
// requests need no signature check. The result depends only on the chain and the trust
// bundle; time, serial and roster are checked at each request.
type verdict struct {
	mu   sync.Mutex
	leaf *x509.Certificate
	pool *x509.CertPool
	host ident.Host
	err  error
}

type verdictKey struct{}

func withVerdict(ctx context.Context) context.Context {
	return context.WithValue(ctx, verdictKey{}, &verdict{})
}

func verdictOf(r *http.Request) *verdict {
	if v, ok := r.Context().Value(verdictKey{}).(*verdict); ok {
		return v
	}
	return &verdict{}
}

// on returns the host of the chain, or why it is not valid.
func (v *verdict) on(chain []*x509.Certificate, pool *x509.CertPool) (ident.Host, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(chain) == 0 {
		return "", pki.ErrNoCert
	}
	if v.leaf != chain[0] || v.pool != pool {
		v.host, v.err = pki.VerifyChain(chain, pool)
		v.leaf, v.pool = chain[0], pool
	}
	return v.host, v.err
}
