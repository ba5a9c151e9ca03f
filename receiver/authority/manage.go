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
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// maxTTL bounds a token's life: one that is forgotten ends some day.
const maxTTL = 365 * 24 * time.Hour

// maxHosts bounds the hosts of one request for tokens.
const maxHosts = 2000

// TokenRequest asks for one join token per host.
type TokenRequest struct {
	Hosts    []ident.Host  `json:"hosts"`
	TTL      time.Duration `json:"ttl,omitempty"`      // nanoseconds; 0 is the config's
	Replaces ident.Host    `json:"replaces,omitempty"` // decommissioned when the new one enrols
	// Pattern, instead of hosts, asks for one token that admits Uses new hosts.
	Pattern ident.Pattern `json:"pattern,omitempty"`
	Uses    int           `json:"uses,omitempty"`
}

// Made is a new join token. It is shown once: the authority keeps no copy.
type Made struct {
	Host    ident.Host    `json:"host,omitempty"`
	Pattern ident.Pattern `json:"pattern,omitempty"` // instead of a host
	Uses    int           `json:"uses,omitempty"`
	Token   string        `json:"token"`
	Expires time.Time     `json:"expires"`
	Voided  bool          `json:"voided_older,omitempty"` // an older unused token of the host or pattern is void now
}

// TokenInfo is what the authority knows of a token.
type TokenInfo struct {
	Host     ident.Host `json:"host,omitempty"`
	State    string     `json:"state"` // open, used, expired or revoked
	Made     time.Time  `json:"made"`
	Expires  time.Time  `json:"expires"`
	From     string     `json:"used_from,omitempty"`
	Replaces ident.Host `json:"replaces,omitempty"`
	// Of a token for many hosts, instead of a host.
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

// misuse of the admin interface: what is wrong and what to do instead.
func wrong(title, fix, format string, args ...any) error {
	p := wire.NewProblem(wire.Malformed, format, args...)
	p.Title, p.Fix = title, fix
	return p
}

func readAdmin(w http.ResponseWriter, r *http.Request, into any) error {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	return decode(r.Body, into)
}

func (a *Authority) refuseAdmin(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*wire.Problem](err)
	if !ok {
		a.o.Log.Error("the authority failed", "path", r.URL.Path, "err", err)
		p = wire.NewProblem(wire.Broken, "%v", err) // root may know
	}
	refuse(w, p)
}

func (a *Authority) createTokens(ask TokenRequest, by string) ([]Made, error) {
	if ask.Pattern != "" {
		return a.createClass(ask, by)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkRequest(&ask); err != nil {
		return nil, err
	}
	made := make([]Made, len(ask.Hosts))
	failed := make([]error, len(ask.Hosts))
	expires := a.o.Now().Add(ask.TTL).UTC().Truncate(time.Second)
	var secrets []string
	var wg sync.WaitGroup
	for i, h := range ask.Hosts {
		secret := newTokenSecret()
		secrets = append(secrets, secret)
		t := wire.Token{Host: h, Receiver: a.o.PublicURL, Authority: a.o.Config.URL, Pin: string(pki.PinOf(a.pinned())), Secret: secret}
		made[i] = Made{Host: h, Token: t.String(), Expires: expires, Voided: a.tokens.usable(h) != nil && a.tokens.usable(h).key == ""}
		// Rows that are written at once share an fsync.
		wg.Go(func() {
			failed[i] = errors.Join(
				a.tokens.write(tokenEvent{Host: h, Event: tokenMade, Secret: hashSecret(secret), Expires: expires, Replaces: ask.Replaces, From: by}),
				a.record(roster.Event{Host: h, Event: roster.TokenMade, Expires: expires, Other: ask.Replaces, From: by}))
		})
	}
	wg.Wait()
	for i, h := range ask.Hosts { // also after an error: a row may be there
		a.tokens.fold(tokenEvent{At: a.o.Now(), Host: h, Event: tokenMade, Secret: hashSecret(secrets[i]), Expires: expires, Replaces: ask.Replaces})
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	a.o.Log.Info("made join tokens", "hosts", len(made), "by", by, "expires", expires)
	return made, nil
}

// checkRequest refuses what cannot be done for all hosts, before anything is
// done for one.
func (a *Authority) checkRequest(ask *TokenRequest) error {
	slices.Sort(ask.Hosts)
	switch ask.Hosts = slices.Compact(ask.Hosts); {
	case len(ask.Hosts) == 0 || len(ask.Hosts) > maxHosts:
		return wrong("wrong number of hosts", "cis490 token create --help", "want 1 to %d hosts, got %d", maxHosts, len(ask.Hosts))
	case ask.Uses != 0:
		return wrong("uses without a pattern", "cis490 token create 'room12-*' --uses 30", "a token for a named host is good once")
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
			return wrong("host is decommissioned", fmt.Sprintf("sudo cis490 host readmit %s   # then make its token", h), "%s is decommissioned since %s", h, host.Since.Format(time.RFC3339))
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
		return wrong("one host replaces one other", "cis490 token create --help", "%s can be replaced by one host of another name", ask.Replaces)
	case !ok || old.State != roster.Active:
		return wrong("no such active host", "sudo cis490 host list", "%s is not an active host", ask.Replaces)
	}
	return nil
}

// checkLife sets the life that is not given, and refuses one out of bounds.
func (r *TokenRequest) checkLife(usual time.Duration) error {
	if r.TTL == 0 {
		r.TTL = usual
	}
	if r.TTL < time.Minute || r.TTL > maxTTL {
		return wrong("wrong life", "cis490 token create --help", "a token lives 1 minute to 365 days, not %s", r.TTL)
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
	return append(all, a.tokens.listClasses()...)
}

func (a *Authority) revokeToken(h ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tokens.usable(h)
	if t == nil {
		return wrong("no open token", "sudo cis490 token list", "%s has no token that could be used", h)
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

// decommission takes effect at the host's next request. The token goes first:
// a crash in between leaves the host as it was, without a way to come back.
func (a *Authority) decommission(h ident.Host, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	host, ok, err := a.roster.Host(h)
	switch {
	case err != nil:
		return err
	case !ok:
		return unknownHost(h)
	case host.State == roster.Gone:
		return nil // so already
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
	host, ok, err := a.roster.Host(h)
	switch {
	case err != nil:
		return err
	case !ok:
		return unknownHost(h)
	case host.State != roster.Gone:
		return wrong("host is not decommissioned", "sudo cis490 host show "+string(h), "%s is %s", h, host.State)
	}
	// A host that was replaced may still have one: readmitting needs a new token.
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
	host, ok, err := a.roster.Host(h)
	if err == nil && !ok {
		err = unknownHost(h)
	}
	return host, err
}

func unknownHost(h ident.Host) error {
	return wrong("no such host", "sudo cis490 host list", "%s is not in this fleet", h)
}

func (a *Authority) describeCA() CAInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := CAInfo{Subject: a.ca.Cert.Subject.CommonName, Pin: pki.PinOf(a.ca.Cert), Expires: a.ca.Cert.NotAfter}
	for _, o := range a.ca.live(a.o.Now()) {
		i.Older = append(i.Older, OlderCA{o.root.Subject.CommonName, pki.PinOf(o.root), o.cross.NotAfter})
	}
	return i
}
