package enroll

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"cis490/internal/fault"
	"cis490/internal/httpclient"
	"cis490/internal/machine"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// ErrPin means that a server does not have the root that the join token names. The token's
// secret was not sent.
var ErrPin = errors.New("the server does not have the root that the join token names; the token was not sent")

// errOtherToken means that the join token changed while the authority could not be reached.
// The run starts over.
var errOtherToken = errors.New("the join token has changed")

// askTimeout bounds one request as a whole.
const askTimeout = 15 * time.Second

// maxPause is the longest pause between two attempts of one run, so that a fleet recovers
// soon after its authority does.
const maxPause = 30 * time.Second

// clockTolerance is the largest clock difference without a warning.
const clockTolerance = 2 * time.Minute

// patiently repeats an attempt while the authority cannot be reached or asks to retry
// later. Rejections are final for this run.
func (e *Enroller) patiently(ctx context.Context, attempt func() (wire.CertAnswer, error)) (wire.CertAnswer, error) {
	until := time.Now().Add(e.o.Patience)
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, maxPause) {
		out, err := attempt()
		p, ours := errors.AsType[*wire.Problem](err)
		switch {
		case err == nil || errors.Is(err, ErrPin) || errors.Is(err, errOtherToken) || errors.Is(err, pki.ErrValidity):
			return out, err
		case ours && p.Status != http.StatusTooManyRequests && p.Status < 500:
			return out, fault.Fix(err, p.Fix)
		case ours:
			err = fault.Exit(fault.Fix(err, "nothing: cert-fetch retries within 5 minutes"), fault.TempFail)
		default:
			err = fault.Exit(err, fault.Unavailable)
			if fault.FixOf(err) == "" {
				err = fault.Fix(err, "nothing: cert-fetch retries within 5 minutes; if the error persists, on this machine: sudo cis490 doctor")
			}
		}
		pause := wait/2 + rand.N(wait/2)
		if time.Now().Add(pause).After(until) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(pause):
		}
	}
}

// pinned fetches the authority's roots over an unverified connection and returns the root
// that the token's pin names. Later requests verify the server against it.
func (e *Enroller) pinned(ctx context.Context, t wire.Token) (*x509.CertPool, error) {
	url := t.Authority
	conf := pki.ClientTLS(nil, nil)
	conf.InsecureSkipVerify = true // the pin verifies the answer; this request holds no secret
	res, err := e.send(ctx, conf, http.MethodGet, strings.TrimSuffix(url, "/")+wire.CAPath, nil)
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		// The server is not verified, so its text is not shown, least of all as a fix.
		return nil, fmt.Errorf("%w: status %d instead of its roots", wire.ErrNotOurs, p.Status)
	}
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCerts(res)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrNotOurs, err)
	}
	for _, c := range certs {
		if t.Pinned(pki.PinOf(c)) {
			pool := x509.NewCertPool()
			pool.AddCert(c)
			return pool, nil
		}
	}
	return nil, fault.Fix(fmt.Errorf("%w (pin %s)", ErrPin, t.Pin), e.joinFix()+"; if the error persists, another machine answers at "+url)
}

// certificate requests a certificate and checks that the answer matches the request.
func (e *Enroller) certificate(ctx context.Context, roots *x509.CertPool, url string, key crypto.Signer,
	secret string,
) (wire.CertAnswer, error) {
	var out wire.CertAnswer
	csr, err := pki.NewCSR(key, e.o.Host)
	if err != nil {
		return out, err
	}
	body, err := json.Marshal(wire.CertRequest{CSR: string(csr), Token: secret})
	if err != nil {
		return out, err
	}
	res, err := e.send(ctx, pki.ClientTLS(roots, nil), http.MethodPost, strings.TrimSuffix(url, "/")+e.certPath(), body)
	if err != nil {
		return out, err
	}
	if err := wire.Decode(res, &out); err != nil {
		return out, fmt.Errorf("%w: %w", wire.ErrNotOurs, err)
	}
	return out, e.judge(out, key, secret != "")
}

// judge rejects an answer that would not work.
func (e *Enroller) judge(a wire.CertAnswer, key crypto.Signer, enrollment bool) error {
	chain, err := pki.ParseCerts([]byte(a.Certificate))
	if err != nil {
		return fmt.Errorf("%w: %w", wire.ErrNotOurs, err)
	}
	trusted, err := pki.ParseCerts([]byte(a.CA))
	if err != nil {
		return fmt.Errorf("%w: trust bundle: %w", wire.ErrNotOurs, err)
	}
	roots := x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	h, err := e.verify(chain, roots)
	switch {
	case errors.Is(err, pki.ErrValidity) && enrollment:
		// Only this host's clock disagrees: the authority's clock decides, and the
		// certificate works once both agree. Another request would use up the host's quota
		// of certificates.
		e.o.Log.Warn("the certificate is not valid by this machine's clock; keeping it",
			"host", e.o.Host, "err", err, "fix", machine.ClockFix)
		err = nil
	case errors.Is(err, pki.ErrValidity):
		return clockFix(err, e.o.Now())
	}
	want, kerr := pki.KeyID(key.Public())
	got, gerr := pki.KeyID(chain[0].PublicKey)
	switch {
	case errors.Join(err, kerr, gerr) != nil:
		return fmt.Errorf("the authority's answer: %w", errors.Join(err, kerr, gerr))
	case h != e.o.Host || want != got:
		return fmt.Errorf("%w: it issued a certificate for %q to another key or host", wire.ErrNotOurs, h)
	case enrollment && a.Bearer == "" && !e.server():
		return fmt.Errorf("%w: an enrollment without a bearer", wire.ErrNotOurs)
	}
	return nil
}

// send makes one request and returns the body of a 200. It follows no redirects and uses no
// proxy.
func (e *Enroller) send(ctx context.Context, conf *tls.Config, method, url string, body []byte) (_ []byte, err error) {
	conf.Time = e.o.Now
	tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, DialContext: e.o.Dial}
	cl := httpclient.New(tr, httpclient.Bounds{Total: askTimeout, Answer: maxFile})
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", wire.ContentTypeJSON)
	res, err := cl.Do(req)
	if err != nil {
		if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
			return nil, clockFix(err, e.o.Now())
		}
		if redirect, ok := errors.AsType[*httpclient.Redirect](err); ok {
			return nil, fmt.Errorf("%w: %w", wire.ErrNotOurs, redirect)
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	e.compareClocks(res.Header.Get("Date"))
	if res.StatusCode != http.StatusOK {
		p, err := wire.ReadProblem(res)
		if err != nil {
			return nil, err
		}
		p.Fix = wire.FixFor(p.Fix, string(e.o.Host))
		return nil, p
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return b, nil
}

// ownClock returns an error if this host's clock is wrong and the authority, whose clock
// decides, considers the certificate valid. Another certificate would not be valid here
// either, and each issued one stays in the ledger.
func (e *Enroller) ownClock(ctx context.Context, leaf *x509.Certificate) error {
	if leaf == nil || pki.CheckValidity(leaf, e.o.Now()) == nil {
		return nil
	}
	roots, err := e.roots()
	if err != nil {
		return nil // the renewal reports it
	}
	e.authority = time.Time{}
	_, err = e.send(ctx, pki.ClientTLS(roots, nil), http.MethodGet, strings.TrimSuffix(e.o.Authority, "/")+wire.AuthorityHealthPath, nil)
	if err != nil || e.authority.IsZero() || pki.Due(leaf, string(e.o.Host), e.authority) {
		return nil
	}
	authority := plain.Time(e.authority)
	return clockFix(fmt.Errorf("the certificate is valid by the authority's clock (%s)", authority), e.o.Now())
}

// compareClocks stores the authority's time and warns when this host's clock differs. The
// host still enrolls and ships, but its recordings carry wrong times.
func (e *Enroller) compareClocks(date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	e.authority = at
	if off := e.o.Now().Sub(at).Round(time.Second); off.Abs() > clockTolerance {
		e.o.Log.Warn("this machine's clock differs from the authority's", "host", e.o.Host, "off", off, "fix", machine.ClockFix)
	}
}

func clockFix(err error, now time.Time) error {
	return fault.Fix(fmt.Errorf("%w; this machine's clock: %s", err, plain.Time(now)),
		machine.ClockFix)
}
