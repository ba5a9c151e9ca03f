// Package enroll gets, renews and recovers a lab host's identity (spec §8). One
// run does what is due, which mostly is nothing.
//
// Promises on a crash: the key is durable before a request for it is sent; at
// every moment certs_dir has the old working credentials or the new ones, as
// the pair is swapped by one rename; what was begun is finished by the next
// run with the same key. It refuses to send a join token's secret to a server
// that does not have the pinned root, and to replace a working pair by one that
// the receiver refuses.
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
	PendingFile     = "key.pending"  // the key of a request that has no certificate yet
	ReleaseKeysFile = "release-keys" // whose releases this host takes, one key a line
	nextDir         = "next"         // credentials that the receiver has not been shown yet
)

// Result says what a run did.
type Result string

// The results of a run that did not fail.
const (
	Nothing  Result = "nothing due"
	Enrolled Result = "enrolled"
	Renewed  Result = "renewed"
)

// Options describe where a host's credentials are and who is asked for them.
type Options struct {
	FS        disk.FS
	Dir       string // certs_dir
	Host      ident.Host
	Authority string // URL, for renewals; a join token brings its own
	// BuiltIn holds the CA certificates, as PEM, that this build trusts where
	// certs_dir has none; there may be none in it.
	BuiltIn []byte
	// Probe asks the receiver with the credentials in a folder laid out like
	// certs_dir. A *wire.Problem is the receiver's word on them; any other error
	// says nothing.
	Probe func(ctx context.Context, dir string) error
	// Patience is how long one run keeps asking an authority that is out of reach;
	// a join token that is replaced meanwhile is noticed.
	Patience time.Duration
	Log      *slog.Logger
	Now      func() time.Time
	// Dial connects to the authority; nil is the machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Enroller looks after one host's credentials.
type Enroller struct {
	o         Options
	authority time.Time // by its clock, at its last answer
}

// New returns the enroller of a host. It touches nothing yet.
func New(o Options) (*Enroller, error) {
	if _, err := ident.ParseHost(string(o.Host)); err != nil {
		return nil, err
	}
	return &Enroller{o: o}, nil
}

// Run does what is due: it enrols with the join token, renews at two thirds of
// the certificate's life (with force at once), and recovers after expiry the
// same way. Exit codes travel with the errors: Unavailable where nobody
// answered, TempFail where the answer was to come again.
func (e *Enroller) Run(ctx context.Context, force bool) (_ Result, err error) {
	if l, ok := e.o.FS.(disk.Locker); ok {
		lock, err := l.Lock(e.o.Dir)
		if errors.Is(err, disk.ErrLocked) {
			return Nothing, fault.Exit(fault.Fix(err, "nothing: another cert-fetch is at work: journalctl -u cis490-cert-fetch"), fault.TempFail)
		}
		if errors.Is(err, fs.ErrPermission) {
			return Nothing, fault.Fix(err, "sudo cis490 cert-fetch")
		}
		if err != nil {
			return Nothing, fault.Fix(err, "sudo cis490 install lab-host --join -")
		}
		defer func(c io.Closer) { err = errors.Join(err, c.Close()) }(lock)
	}
	for {
		r, err := e.once(ctx, force)
		switch {
		case errors.Is(err, errOtherToken):
		case err == nil && r == Nothing:
			return r, e.takeKeys(ctx)
		default:
			return r, err
		}
	}
}

func (e *Enroller) once(ctx context.Context, force bool) (Result, error) {
	s, err := e.look()
	if err != nil {
		return Nothing, err
	}
	if s.damaged != nil {
		// It must not keep the host from renewing, or lose what was begun with it.
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
		r, err := e.enrol(ctx, s)
		if err != nil && s.key != nil && e.due(s) {
			// A token that is refused must not keep the host from renewing.
			if _, rerr := e.renew(ctx, s); rerr != nil {
				err = errors.Join(err, rerr)
			}
		}
		return r, err
	case s.key == nil:
		return Nothing, fault.Exit(fault.Fix(fmt.Errorf("%s is not enrolled and has no join token", e.o.Host),
			"on the receiver: sudo cis490 token create "+string(e.o.Host)+", then paste what it prints on this machine"), fault.Config)
	case force:
		return e.renew(ctx, s)
	case e.due(s):
		if err := e.ownClock(ctx, s.leaf); err != nil {
			return Nothing, err
		}
		return e.renew(ctx, s)
	}
	return Nothing, nil
}

// due tells whether the certificate is to be renewed now, by this host's clock.
func (e *Enroller) due(s state) bool {
	return s.leaf == nil || pki.Due(s.leaf, string(e.o.Host), e.o.Now())
}

// enrol asks with the join token, by a key that is durable before.
func (e *Enroller) enrol(ctx context.Context, s state) (Result, error) {
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
		roots, err := e.pinned(ctx, s.token.Authority, s.token.Pin)
		if err != nil {
			return wire.CertAnswer{}, err
		}
		return e.certificate(ctx, roots, s.token.Authority, s.pending, s.token.Secret)
	})
	if err != nil {
		return Nothing, fmt.Errorf("enrol with %s: %w", s.token.Authority, err)
	}
	return e.install(ctx, s, s.pending, out)
}

// renew asks by the key that the present certificate was issued to, which is
// the proof, also long after the certificate has expired.
func (e *Enroller) renew(ctx context.Context, s state) (Result, error) {
	roots, err := e.roots()
	if err != nil {
		return Nothing, fault.Fix(fmt.Errorf("read the trusted CA: %w", err),
			"on the receiver: sudo cis490 token create "+string(e.o.Host)+", then paste what it prints on this machine")
	}
	out, err := e.patiently(ctx, func() (wire.CertAnswer, error) {
		return e.certificate(ctx, roots, e.o.Authority, s.key, "")
	})
	if err != nil {
		return Nothing, fmt.Errorf("renew with %s: %w", e.o.Authority, err)
	}
	s.token = nil // what follows is about the present key
	return e.install(ctx, s, s.key, out)
}

// roots returns the CAs that the authority is expected to have.
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

// makeKey makes the key for a token and notes whose it is, so that a newer token
// gets a key of its own.
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
