// Package enroll gets, renews and recovers a lab host's identity, and the server certificate
// of a receiver whose authority is on another one. docs/protocol.md describes the exchange. A
// run does what is due, which is usually nothing.
//
// On a crash: the key is durable before a request for it is sent; certs_dir always holds
// the old working credentials or the new ones, because one rename swaps the pair; the next
// run finishes with the same key. The join token's secret is sent only to a server with the
// pinned root. A working pair is not replaced by one that the receiver rejects.
package enroll

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"cis490/agent/client"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// The files of certs_dir beside those that package client reads.
const (
	TokenFile       = "join-token"   // the whole token, until it has been used
	PendingFile     = "key.pending"  // the key of a request without a certificate yet
	ReleaseKeysFile = "release-keys" // keys that sign the releases of this host, one a line
	nextDir         = "next"         // new credentials that the receiver has not accepted yet
)

// Result is what a run did.
type Result string

// The results of a run that did not fail.
const (
	Nothing  Result = "nothing due"
	Enrolled Result = "enrolled"
	Renewed  Result = "renewed"
)

// Options configure an Enroller.
type Options struct {
	FS   disk.FS
	Dir  string // certs_dir
	Host ident.Host
	// Serves is the name or address that a receiver's server certificate must be for; Host is
	// then the receiver's name. Empty: this is a lab host.
	Serves    string
	Authority string // URL for renewals; a join token holds its own
	// BuiltIn holds the CA certificates (PEM) of this build, for a host without ca.crt. It
	// may be empty.
	BuiltIn []byte
	// Probe pings the receiver with the credentials in a folder laid out like certs_dir. A
	// *wire.Problem means that the receiver rejected them; any other error proves nothing. On
	// a receiver it is not called.
	Probe func(ctx context.Context, dir string) error
	// Patience is how long one run retries while the authority cannot be reached. A join
	// token that is replaced meanwhile is noticed.
	Patience time.Duration
	Log      *slog.Logger
	Now      func() time.Time
	// Dial connects to the authority; nil means net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Enroller manages one host's credentials.
type Enroller struct {
	o         Options
	authority time.Time // the authority's time at its last answer
}

// New returns a host's enroller. It reads and writes nothing yet.
func New(o Options) (*Enroller, error) {
	if _, err := ident.ParseHost(string(o.Host)); err != nil {
		return nil, err
	}
	return &Enroller{o: o}, nil
}

// Run enrolls with the join token, or renews at two thirds of the certificate's life (at
// once with force), also after expiry. Errors carry exit codes: Unavailable where the
// authority did not answer, TempFail where it asked to retry.
func (e *Enroller) Run(ctx context.Context, force bool) (_ Result, err error) {
	if l, ok := e.o.FS.(disk.Locker); ok {
		lock, err := l.Lock(e.o.Dir)
		if errors.Is(err, disk.ErrLocked) {
			return Nothing, fault.Exit(fault.Fix(err, "nothing: another cert-fetch is running: journalctl -u cis490-cert-fetch"), fault.TempFail)
		}
		if errors.Is(err, fs.ErrPermission) {
			return Nothing, fault.Fix(err, "sudo cis490 cert-fetch")
		}
		if err != nil {
			return Nothing, fault.Fix(err, e.joinFix())
		}
		defer func(c io.Closer) { err = errors.Join(err, c.Close()) }(lock)
	}
	for {
		r, err := e.once(ctx, force)
		switch {
		case errors.Is(err, errOtherToken):
		case err == nil && r == Nothing && !e.server(): // a receiver has a copy of the keys
			return r, e.takeKeys(ctx)
		default:
			return r, err
		}
	}
}

func (e *Enroller) once(ctx context.Context, force bool) (Result, error) {
	s, err := e.load()
	if err != nil {
		return Nothing, err
	}
	if s.damaged != nil {
		// The host still renews, and finishes a request that it began with this token.
		if s.key == nil || (!force && !e.due(s)) {
			return Nothing, s.damaged
		}
		r, err := e.renew(ctx, s)
		return r, errors.Join(s.damaged, err)
	}
	if s, err = e.tidy(s); err != nil {
		return Nothing, err
	}
	switch {
	case s.next:
		return e.promote(ctx, s)
	case s.token != nil:
		r, err := e.enroll(ctx, s)
		if err != nil && s.key != nil && e.due(s) {
			// A rejected token must not block the renewal.
			if _, rerr := e.renew(ctx, s); rerr != nil {
				err = errors.Join(err, rerr)
			}
		}
		return r, err
	case s.key == nil:
		return Nothing, e.needsToken("%s is not enrolled and has no join token", e.o.Host)
	case force:
		return e.renew(ctx, s)
	case e.due(s):
		if err := e.ownClock(ctx, s.leaf); err != nil {
			return Nothing, err
		}
		return e.renew(ctx, s)
	case !s.bearer:
		return Nothing, e.needsToken("%s has a certificate, but no bearer, and no join token to get a bearer with", e.o.Host)
	}
	return Nothing, nil
}

// needsToken returns an error that a new join token fixes.
func (e *Enroller) needsToken(format string, args ...any) error {
	return fault.Exit(fault.Fix(fmt.Errorf(format, args...), e.joinFix()), fault.Config)
}

// due reports whether the certificate should be renewed now, by this host's clock.
func (e *Enroller) due(s state) bool {
	return s.leaf == nil || pki.Due(s.leaf, string(e.o.Host), e.o.Now())
}

// enroll requests a certificate with the join token, for a key that is durable already.
func (e *Enroller) enroll(ctx context.Context, s state) (Result, error) {
	if s.pending == nil {
		key, err := e.makeKey(s)
		if err != nil {
			return Nothing, err
		}
		s.pending = key
	}
	out, err := e.patiently(ctx, func() (wire.CertAnswer, error) {
		if t, err := e.readToken(); err == nil && (t == nil || *t != *s.token) {
			return wire.CertAnswer{}, errOtherToken
		}
		roots, err := e.pinned(ctx, *s.token)
		if err != nil {
			return wire.CertAnswer{}, err
		}
		return e.certificate(ctx, roots, s.token.Authority, s.pending, s.token.Secret)
	})
	if err != nil {
		return Nothing, fmt.Errorf("enroll with %s: %w", s.token.Authority, err)
	}
	return e.install(ctx, s, s.pending, out)
}

// renew requests a certificate for the current certificate's key. The key is the proof,
// even long after expiry.
func (e *Enroller) renew(ctx context.Context, s state) (Result, error) {
	roots, err := e.roots()
	if err != nil {
		return Nothing, e.needsToken("read the trusted CA: %w", err)
	}
	out, err := e.patiently(ctx, func() (wire.CertAnswer, error) {
		return e.certificate(ctx, roots, e.o.Authority, s.key, "")
	})
	if err != nil {
		return Nothing, fmt.Errorf("renew with %s: %w", e.o.Authority, err)
	}
	s.token = nil // the rest concerns the current key
	return e.install(ctx, s, s.key, out)
}

// roots returns the CAs that the authority must have.
func (e *Enroller) roots() (*x509.CertPool, error) {
	b, err := e.read(client.CAFile)
	if err != nil {
		return nil, err
	}
	if b == nil {
		b = e.o.BuiltIn
	}
	certs, err := pki.ParseCerts(b)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// makeKey makes the key for a token and stores the token's hash with it, so that another
// token gets its own key.
func (e *Enroller) makeKey(s state) (crypto.Signer, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	b, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	b = append([]byte(pendingFor(s.token)), b...)
	if err := disk.ReplaceBytes(e.o.FS, e.path(PendingFile), 0o600, b); err != nil {
		return nil, fmt.Errorf("store the new key: %w", err)
	}
	return key, nil
}

func (e *Enroller) path(parts ...string) string {
	return filepath.Join(append([]string{e.o.Dir}, parts...)...)
}
