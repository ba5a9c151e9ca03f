package authority

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// maxTTL bounds a token's life, so that a forgotten token expires.
const maxTTL = 365 * 24 * time.Hour

// maxHosts bounds the hosts of one request for tokens.
const maxHosts = 2000

// TokenRequest requests one join token per host, or one for a pattern.
type TokenRequest struct {
	Hosts    []ident.Host  `json:"hosts"`
	TTL      time.Duration `json:"ttl,omitempty"`      // nanoseconds; 0: from the config
	Replaces ident.Host    `json:"replaces,omitempty"` // decommissioned when the new host enrolls
	// Pattern, instead of Hosts, requests one token for Uses new hosts.
	Pattern ident.Pattern `json:"pattern,omitempty"`
	Uses    int           `json:"uses,omitempty"`
}

// CreatedToken is a new join token. It is shown once: the authority stores only its digest.
type CreatedToken struct {
	Host    ident.Host    `json:"host,omitempty"`
	Pattern ident.Pattern `json:"pattern,omitempty"` // instead of a host
	Uses    int           `json:"uses,omitempty"`
	Token   string        `json:"token"`
	Expires time.Time     `json:"expires"`
	Voided  bool          `json:"voided_older,omitempty"` // an older unused token of the host or pattern was revoked
	Active  bool          `json:"active,omitempty"`       // the host is enrolled: the machine that uses the token replaces it
}

// TokenInfo describes a token without its secret.
type TokenInfo struct {
	Host     ident.Host `json:"host,omitempty"`
	State    string     `json:"state"` // open, used, expired or revoked
	Made     time.Time  `json:"made"`
	Expires  time.Time  `json:"expires"`
	From     string     `json:"used_from,omitempty"`
	Replaces ident.Host `json:"replaces,omitempty"`
	// Set instead of Host for the token of a pattern.
	Pattern ident.Pattern `json:"pattern,omitempty"`
	Uses    int           `json:"uses,omitempty"`
	Used    int           `json:"used,omitempty"`
}

// CAInfo describes the CA.
type CAInfo struct {
	Subject string       `json:"subject"`
	Pin     ident.Digest `json:"pin"`
	Expires time.Time    `json:"expires"`
	Older   []OlderCA    `json:"older,omitempty"`
}

// OlderCA is a CA that was rotated out and is still trusted.
type OlderCA struct {
	Subject string       `json:"subject"`
	Pin     ident.Digest `json:"pin"`
	Until   time.Time    `json:"until"`
}

// invalid returns the answer to a request that cannot be carried out, with its fix.
func invalid(title, fix, format string, args ...any) error {
	p := wire.NewProblem(wire.Malformed, format, args...)
	p.Title, p.Fix = title, fix
	return p
}

func (a *Authority) rejectAdmin(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		a.o.Log.Error("the authority failed", "path", r.URL.Path, "err", err)
		p = wire.NewProblem(wire.Broken, "%v", err) // the caller is root, so the error may be shown
	}
	sendProblem(w, p)
}

func (a *Authority) createTokens(ask TokenRequest, by string) ([]CreatedToken, error) {
	if ask.Pattern != "" {
		return a.createPatternToken(ask, by)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkRequest(&ask); err != nil {
		return nil, err
	}
	made := make([]CreatedToken, len(ask.Hosts))
	failed := make([]error, len(ask.Hosts))
	expires := a.o.Now().Add(ask.TTL).UTC().Truncate(time.Second)
	var secrets []string
	var wg sync.WaitGroup
	for i, h := range ask.Hosts {
		host, _, _ := a.roster.Host(h) // checkRequest has read it
		secret := newTokenSecret()
		secrets = append(secrets, secret)
		t := wire.Token{Host: h, Receiver: a.o.PublicURL, Authority: a.o.Config.URL, Pin: string(pki.PinOf(a.pinnedRoot())), Secret: secret}
		made[i] = CreatedToken{
			Host: h, Token: t.String(), Expires: expires, Active: host.State == roster.Active,
			Voided: a.tokens.usable(h) != nil && a.tokens.usable(h).key == "",
		}
		// Rows written at the same time share an fsync.
		wg.Go(func() {
			failed[i] = errors.Join(
				a.tokens.write(tokenEvent{Host: h, Event: tokenMade, Secret: hashSecret(secret), Expires: expires, Replaces: ask.Replaces, From: by}),
				a.record(roster.Event{Host: h, Event: roster.TokenMade, Expires: expires, Other: ask.Replaces, From: by}))
		})
	}
	wg.Wait()
	for i, h := range ask.Hosts { // also after an error: some rows may be durable
		a.tokens.apply(tokenEvent{
			At: a.o.Now(), Host: h, Event: tokenMade, Secret: hashSecret(secrets[i]), Expires: expires, Replaces: ask.Replaces,
		})
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	a.o.Log.Info("created join tokens", "hosts", len(made), "by", by, "expires", expires)
	return made, nil
}

// checkRequest checks a request for all hosts before the first token is created.
func (a *Authority) checkRequest(ask *TokenRequest) error {
	slices.Sort(ask.Hosts)
	switch ask.Hosts = slices.Compact(ask.Hosts); {
	case len(ask.Hosts) == 0 || len(ask.Hosts) > maxHosts:
		return invalid("wrong number of hosts", "cis490 token create --help", "want 1 to %d hosts, got %d", maxHosts, len(ask.Hosts))
	case ask.Uses != 0:
		return invalid("uses without a pattern", "cis490 token create 'room12-*' --uses 30", "a token for a named host can be used once")
	}
	if err := ask.checkLife(a.o.Config.TokenTTL.D()); err != nil {
		return err
	}
	for _, h := range ask.Hosts {
		host, _, err := a.roster.Host(h)
		if err != nil {
			return err
		}
		if host.State == roster.Gone {
			return invalid("host is decommissioned", fmt.Sprintf("sudo cis490 host readmit %[1]s && sudo cis490 token create %[1]s", h),
				"%s was decommissioned at %s", h, plain.Time(host.Since))
		}
	}
	if ask.Replaces == "" {
		return nil
	}
	old, ok, err := a.roster.Host(ask.Replaces)
	switch {
	case err != nil:
		return err
	case len(ask.Hosts) != 1 || ask.Hosts[0] == ask.Replaces:
		return invalid("one host replaces one other", "cis490 token create --help", "%s can be replaced by one host of another name",
			ask.Replaces)
	case !ok || old.State != roster.Active:
		return invalid("no such active host", "sudo cis490 host list", "%s is not an active host", ask.Replaces)
	}
	return nil
}

// checkLife sets the default life, and returns an error if it is out of bounds.
func (r *TokenRequest) checkLife(usual time.Duration) error {
	if r.TTL == 0 {
		r.TTL = usual
	}
	if r.TTL < time.Minute || r.TTL > maxTTL {
		return invalid("invalid lifetime", "cis490 token create --help", "a token is valid for 1 minute to 365 days, not %s", r.TTL)
	}
	return nil
}

func (a *Authority) listTokens() []TokenInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []TokenInfo{}
	for h, tokens := range a.tokens.hosts {
		for _, t := range tokens {
			i := TokenInfo{Host: h, State: "open", Made: t.made, Expires: t.expires, From: t.from, Replaces: t.replaces}
			switch {
			case t.revoked:
				i.State = "revoked"
			case t.key != "":
				i.State = "used"
			case !a.o.Now().Before(t.expires):
				i.State = "expired"
			}
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(x, y TokenInfo) int {
		return cmp.Or(strings.Compare(string(x.Host), string(y.Host)), x.Made.Compare(y.Made))
	})
	return append(all, a.tokens.listPatterns()...)
}

func (a *Authority) revokeToken(h ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tokens.usable(h)
	if t == nil {
		return invalid("no open token", "sudo cis490 token list", "%s has no token that could be used", h)
	}
	return a.revoke(t, by)
}

func (a *Authority) revoke(t *token, by string) error {
	if err := a.tokens.append(tokenEvent{Host: t.host, Event: tokenRevoked, Secret: t.secret, From: by}); err != nil {
		return err
	}
	a.o.Log.Info("revoked a join token", "host", t.host, "by", by)
	return a.record(roster.Event{Host: t.host, Event: roster.TokenRevoked, From: by})
}

// decommission takes effect at the host's next request. Its tokens are revoked first: after
// a crash between the two steps, the host is still active, but cannot enroll again.
func (a *Authority) decommission(h ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	host, err := a.knownHost(h)
	if err != nil || host.State == roster.Gone {
		return err
	}
	if err := a.tokens.revokeAll(h, by); err != nil {
		return err
	}
	a.o.Log.Warn("decommissioned a host", "host", h, "by", by)
	return a.record(roster.Event{Host: h, Event: roster.Decommissioned, From: by})
}

func (a *Authority) readmit(h ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	host, err := a.knownHost(h)
	switch {
	case err != nil:
		return err
	case host.State != roster.Gone:
		return invalid("host is not decommissioned", "sudo cis490 host show "+string(h), "%s is %s", h, host.State)
	}
	// A replaced host may still have an open token; a readmitted one must get a new token.
	if err := a.tokens.revokeAll(h, by); err != nil {
		return err
	}
	a.o.Log.Warn("readmitted a host", "host", h, "by", by)
	return a.record(roster.Event{Host: h, Event: roster.Readmitted, From: by})
}

func (a *Authority) showHost(name string) (roster.Host, error) {
	h, err := ident.ParseHost(name)
	if err != nil {
		return roster.Host{}, wire.NewProblem(wire.Malformed, "%v", err)
	}
	return a.knownHost(h)
}

// knownHost returns a host of the roster.
func (a *Authority) knownHost(h ident.Host) (roster.Host, error) {
	host, ok, err := a.roster.Host(h)
	if err == nil && !ok {
		err = invalid("no such host", "sudo cis490 host list", "%s is not in this fleet", h)
	}
	return host, err
}

// describeCA describes the CA. The caller holds the lock.
func (a *Authority) describeCA() CAInfo {
	i := CAInfo{Subject: a.ca.Cert.Subject.CommonName, Pin: pki.PinOf(a.ca.Cert), Expires: a.ca.Cert.NotAfter}
	for _, o := range a.ca.live(a.o.Now()) {
		i.Older = append(i.Older, OlderCA{o.root.Subject.CommonName, pki.PinOf(o.root), o.cross.NotAfter})
	}
	return i
}
