package enroll

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// maxRoots bounds the roots of an authority that Join tries.
const maxRoots = 8

// Code is what a machine shows the person who admits it.
type Code struct {
	Digits string       // six; the authority computes the same ones only if this machine sees its root
	Root   ident.Digest // sha256 of the root by which this machine verifies the authority
	Until  time.Time    // by this machine's clock
}

// AuthorityOf asks a receiver, which is not verified, where its authority is. Join verifies
// the authority.
func (e *Enroller) AuthorityOf(ctx context.Context, receiver string) (string, error) {
	conf := pki.ClientTLS(nil, nil)
	conf.InsecureSkipVerify = true
	b, err := e.send(ctx, conf, http.MethodGet, strings.TrimSuffix(receiver, "/")+wire.AuthorityPath, nil)
	var out wire.AuthorityAddress
	if err == nil {
		err = wire.Decode(b, &out)
	}
	if err == nil {
		if u, perr := url.Parse(out.URL); perr != nil || u.Scheme != "https" || u.Host == "" {
			err = errors.New("its answer is not an https URL")
		}
	}
	if err != nil {
		return "", fault.Exit(fault.Fix(fmt.Errorf("ask the receiver at %s for its authority: %w", receiver, unverified(err)),
			"curl -kI "+receiver+"/healthz   # does the receiver answer? it may be older than this program"), fault.Unavailable)
	}
	return out.URL, nil
}

// Join asks an authority to admit this host, calls show with the code to approve, and waits.
// It returns a join token. An attacker between host and authority makes the codes differ:
// see wire.JoinCode.
func (e *Enroller) Join(ctx context.Context, show func(Code)) (string, error) {
	b := make([]byte, wire.JoinNonceBytes)
	_, _ = rand.Read(b) // never fails
	nonce := hex.EncodeToString(b)
	root, started, err := e.startJoin(ctx, nonce)
	if err != nil {
		return "", e.joinFailed(err)
	}
	until := e.o.Now().Add(time.Duration(started.Expires) * time.Second)
	every := max(time.Duration(started.Interval)*time.Second, 500*time.Millisecond)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	body, err := json.Marshal(wire.JoinWait{ID: started.ID, Nonce: nonce})
	if err != nil {
		return "", err
	}
	for shown := false; ; {
		var out wire.JoinAnswer
		res, err := e.send(ctx, pki.ClientTLS(pool, nil), http.MethodPost, e.joinURL(wire.JoinWaitSuffix), body)
		if err == nil {
			err = wire.Decode(res, &out)
		}
		p, ours := errors.AsType[*wire.Problem](err)
		switch {
		case err == nil && out.Token != "":
			return out.Token, nil
		case err == nil && !shown:
			shown = true
			pin := pki.PinOf(root)
			show(Code{wire.JoinCode(pin, e.o.Host, nonce, started.Nonce), pin, until})
		case ours && p.Status < http.StatusInternalServerError && p.Status != http.StatusTooManyRequests:
			return "", e.joinFailed(err)
		}
		if e.o.Now().After(until) { // the authority has dropped the request, or does not answer
			return "", e.joinFailed(errors.Join(errors.New("nobody approved the code in time"), unverified(err)))
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(every):
		}
	}
}

// startJoin finds the root that verifies the authority, and starts a request with it.
func (e *Enroller) startJoin(ctx context.Context, nonce string) (*x509.Certificate, wire.JoinStarted, error) {
	var started wire.JoinStarted
	conf := pki.ClientTLS(nil, nil)
	conf.InsecureSkipVerify = true // the code proves the root
	b, err := e.send(ctx, conf, http.MethodGet, strings.TrimSuffix(e.o.Authority, "/")+wire.CAPath, nil)
	if err != nil {
		return nil, started, err
	}
	roots, err := pki.ParseCerts(b)
	if err != nil {
		return nil, started, fmt.Errorf("%w: %w", wire.ErrNotOurs, err)
	}
	for _, root := range roots[:min(len(roots), maxRoots)] {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		body, merr := json.Marshal(wire.JoinRequest{Root: pki.PinOf(root), Commitment: wire.CommitJoin(nonce)})
		if merr != nil {
			return nil, started, merr
		}
		b, err = e.send(ctx, pki.ClientTLS(pool, nil), http.MethodPost, e.joinURL(wire.JoinSuffix), body)
		if _, other := errors.AsType[x509.UnknownAuthorityError](err); other {
			continue
		}
		if err == nil {
			err = wire.Decode(b, &started)
		}
		if err == nil && (started.Expires < 1 || started.Expires > 3600 || started.Interval > 60) {
			err = fmt.Errorf("%w: %d s to approve, polled every %d s", wire.ErrNotOurs, started.Expires, started.Interval)
		}
		return root, started, err
	}
	return nil, started, fmt.Errorf("%w: it has none of the %d roots that it lists", wire.ErrNotOurs, len(roots))
}

func (e *Enroller) joinURL(suffix string) string {
	return strings.TrimSuffix(e.o.Authority, "/") + wire.CertPrefix + string(e.o.Host) + suffix
}

// joinFailed adds exit code and fix.
func (e *Enroller) joinFailed(err error) error {
	code := fault.Unavailable
	if _, ours := errors.AsType[*wire.Problem](err); ours {
		code = fault.TempFail
	}
	return fault.Exit(fault.Fix(fmt.Errorf("ask %s to admit %s: %w", e.o.Authority, e.o.Host, unverified(err)),
		"run it again for a new code; or, on the receiver: sudo cis490 token create "+string(e.o.Host)), code)
}

// unverified replaces the text of a server that is not verified yet, so that nobody follows
// its advice.
func unverified(err error) error {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		return err
	}
	return wire.NewProblem(p.Kind, "it answered with status %d", p.Status)
}
