package authority

import (
	"crypto/x509"
	"strings"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// issuedRow is a row of issued.jsonl.
type issuedRow struct {
	At       time.Time    `json:"at"`
	Host     ident.Host   `json:"host"`
	Serial   string       `json:"serial"`
	Key      ident.Digest `json:"key"`
	From     string       `json:"from"`
	How      string       `json:"how"` // token or renewal
	NotAfter time.Time    `json:"not_after"`
}

// misuseEvery is the shortest interval between two records of misuse of one token.
const misuseEvery = time.Hour

// certify issues a host's certificate for a join token, or for the key of its last
// certificate. A rejection is a *wire.Problem.
func (a *Authority) certify(h ident.Host, req wire.CertRequest, from string) (wire.CertAnswer, error) {
	csr, key, csrErr := parseCSR(req, h)
	a.mu.Lock()
	defer a.mu.Unlock()
	host, known, err := a.roster.Host(h)
	if err != nil {
		return wire.CertAnswer{}, err
	}
	if req.Token != "" {
		t, err := a.admit(h, host, req.Token, csrErr, key, from)
		if err != nil {
			return wire.CertAnswer{}, err
		}
		bearer := newSecret()
		e := roster.Event{Host: h, Event: roster.Enrolled, Key: key, Bearer: hashSecret(bearer), Other: t.replaces, From: from}
		return a.issue(csr, host, e, "token", bearer)
	}
	switch {
	case csrErr != nil:
		return wire.CertAnswer{}, wire.NewProblem(wire.BadCSR, "%v", csrErr)
	case !known || host.Key == "" || host.Key != key:
		return wire.CertAnswer{}, wire.NewProblem(wire.NotThisKey, "no certificate of %s was issued to this key", h)
	//off:09_CertificateExpired
	case host.State != roster.Active:
		return wire.CertAnswer{}, decommissioned(h, host)
	}
	return a.issue(csr, host, roster.Event{Host: h, Event: roster.Renewed, Key: key, From: from}, "renewal", "")
}

// decommissioned is the answer to a request of a decommissioned host.
func decommissioned(h ident.Host, host roster.Host) error {
	return wire.NewProblem(wire.Decommission, "%s is %s since %s", h, host.State, plain.Time(host.Since))
}

// admit checks a join token and binds it to the key of its first use. The same key may use
// it again, because an answer may be lost; any other key is rejected.
func (a *Authority) admit(h ident.Host, host roster.Host, secret string, csrErr error, key ident.Digest, from string) (*token, error) {
	t := a.tokens.find(h, secret)
	if t == nil {
		var err error
		if t, err = a.admitByPattern(h, host, secret, csrErr, from); err != nil {
			return nil, err
		}
	}
	switch {
	case host.State == roster.Gone: // its tokens are revoked, too, but it gets no other before it is readmitted
		return nil, decommissioned(h, host)
	case t.revoked:
		return nil, wire.NewProblem(wire.BadToken, "this token of %s was revoked or replaced by a newer one", h)
	case !a.o.Now().Before(t.expires):
		return nil, wire.NewProblem(wire.TokenExpired, "it expired at %s", plain.Time(t.expires))
	case csrErr != nil:
		return nil, wire.NewProblem(wire.BadCSR, "%v", csrErr)
	case t.key != "" && t.key != key:
		return nil, a.misuse(t, key, from)
	case t.key == key:
		return t, nil
	}
	return t, a.tokens.append(tokenEvent{Host: h, Event: tokenBound, Secret: t.secret, Key: key, From: from})
}

// misuse records that a token was used with another key: it was stolen, or the machine was
// cloned.
func (a *Authority) misuse(t *token, key ident.Digest, from string) error {
	if now := a.o.Now(); now.Sub(t.misused) >= misuseEvery {
		err := a.record(roster.Event{Host: t.host, Event: roster.TokenMisused, Key: key, From: from})
		if err != nil {
			return err
		}
		t.misused = now
		a.o.Log.Warn("join token used with another key", "host", t.host, "from", from, "bound_from", t.from)
	}
	return wire.NewProblem(wire.TokenUsed, "a token of %s is for the machine that used it first", t.host)
}

// issue signs a certificate, records it and returns it. The roster's row is written last:
// without it, serve rejects the certificate.
func (a *Authority) issue(csr *x509.CertificateRequest, host roster.Host, e roster.Event, how, bearer string) (wire.CertAnswer, error) {
	// While the clock was ahead, the host asked for certificates that it could not use. It
	// gets one of the right clock in any case: the last one ends later than that.
	ahead := host.CertExpires.Sub(a.o.Now()) > a.o.Config.CertLife.D()
	if !a.certs.Allow(string(e.Host)) && !ahead {
		p := wire.NewProblem(wire.Busy, "%s is over the limit of %d certificates at once", e.Host, certBurst)
		p.RetryAfter = 1 + int(a.certs.Wait(string(e.Host)).Seconds())
		return wire.CertAnswer{}, p
	}
	cert, err := a.ca.Client(csr.PublicKey, e.Host, a.o.Now(), a.o.Config.CertLife.D())
	if err != nil {
		return wire.CertAnswer{}, err
	}
	e.Serial, e.Expires = pki.Serial(cert), cert.NotAfter
	err = a.issued.Append(func(at time.Time) any {
		return issuedRow{At: at, Host: e.Host, Serial: e.Serial, Key: e.Key, From: e.From, How: how, NotAfter: e.Expires}
	})
	if err != nil {
		return wire.CertAnswer{}, err
	}
	if err := a.record(e); err != nil {
		return wire.CertAnswer{}, err
	}
	a.o.Log.Info("issued a certificate", "host", e.Host, "serial", e.Serial, "how", how, "from", e.From, "expires", e.Expires)
	return wire.CertAnswer{
		Certificate: string(pki.EncodeCerts(cert)),
		CA:          string(pki.EncodeCerts(a.bundle()...)),
		ReleaseKeys: a.releaseKeys(),
		Bearer:      bearer,
	}, nil
}

func (a *Authority) record(e roster.Event) error {
	return a.events.Append(func(at time.Time) any {
		e.At = at
		return e
	})
}

// releaseKeys returns the public keys of releases, or none.
func (a *Authority) releaseKeys() []string {
	b, err := disk.ReadFile(a.o.FS, a.path(ReleaseKeys), maxFile)
	if err != nil {
		return nil // hosts get them with a later answer
	}
	var keys []string
	for line := range strings.Lines(string(b)) {
		if k := strings.TrimSpace(line); k != "" && !strings.HasPrefix(k, "#") {
			keys = append(keys, k)
		}
	}
	return keys
}

// parseCSR returns a request's CSR for a name, and the id of its key.
func parseCSR(req wire.CertRequest, name ident.Host) (csr *x509.CertificateRequest, key ident.Digest, err error) {
	if csr, err = pki.ParseCSR([]byte(req.CSR), name); err == nil {
		key, err = pki.KeyID(csr.PublicKey)
	}
	return csr, key, err
}
