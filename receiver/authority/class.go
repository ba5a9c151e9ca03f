package authority

import (
	"cmp"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"cis490/internal/ident"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// maxUses bounds the hosts that one token admits.
const maxUses = 1000

// class is a join token for a number of hosts whose names match a pattern. Each host that
// uses it gets a token of its own with the same secret, bound to its key.
type class struct {
	pattern ident.Pattern
	secret  ident.Digest
	made    time.Time
	expires time.Time
	uses    int
	used    int
	revoked bool
}

// foldClass lets an event of a class count.
func (b *tokenBook) foldClass(e tokenEvent) {
	switch e.Event {
	case tokenMade:
		// An older one of the pattern is void.
		b.classes = slices.DeleteFunc(b.classes, func(c *class) bool { return b.now().Sub(c.expires) >= keptExpired })
		for _, c := range b.classes {
			c.revoked = c.revoked || c.pattern == e.Pattern
		}
		b.classes = append(b.classes, &class{pattern: e.Pattern, secret: e.Secret, made: e.At, expires: e.Expires, uses: e.Uses})
	case tokenRevoked:
		for _, c := range b.classes {
			c.revoked = c.revoked || c.secret == e.Secret
		}
	}
}

// class returns the class with this secret, or nil.
func (b *tokenBook) class(secret string) *class {
	given := []byte(hashSecret(secret))
	var found *class
	for _, c := range b.classes {
		if subtle.ConstantTimeCompare(given, []byte(c.secret)) == 1 {
			found = c
		}
	}
	return found
}

// fromClass makes the host's own token, if the secret is that of a class.
func (a *Authority) fromClass(h ident.Host, host roster.Host, secret string, csrErr error, from string) (*token, error) {
	c := a.tokens.class(secret)
	switch {
	case c == nil:
		return nil, wire.NewProblem(wire.BadToken, "there is no such token for %s", h)
	case !c.pattern.Match(h):
		return nil, wire.NewProblem(wire.BadToken, "this token is for hosts with names like %s, not for %s", c.pattern, h)
	case c.revoked:
		return nil, wire.NewProblem(wire.BadToken, "this token for %s was revoked or replaced by a newer one", c.pattern)
	case !a.o.Now().Before(c.expires):
		return nil, wire.NewProblem(wire.TokenExpired, "it ran out at %s", c.expires.Format(time.RFC3339))
	case csrErr != nil:
		return nil, wire.NewProblem(wire.BadCSR, "%v", csrErr)
	case host.State != "":
		// Who has the token of a whole room must not become one of its hosts.
		return nil, wire.NewProblem(wire.BadToken, "%s is %s: a token for many hosts admits only new ones", h, host.State)
	case c.used >= c.uses:
		return nil, wire.NewProblem(wire.BadToken, "this token for %s has admitted %d hosts, as many as it may", c.pattern, c.used)
	}
	err := a.tokens.append(tokenEvent{
		Host: h, Event: tokenMade, Secret: c.secret, Expires: c.expires, Pattern: c.pattern, From: from,
	})
	return a.tokens.find(h, secret), err
}

// createClass makes a token for many hosts.
func (a *Authority) createClass(ask TokenRequest, by string) ([]Made, error) {
	switch {
	case len(ask.Hosts) > 0 || ask.Replaces != "":
		return nil, wrong("hosts or a pattern", "cis490 token create --help", "a token is for one pattern, or for named hosts")
	case ask.Uses < 1 || ask.Uses > maxUses:
		return nil, wrong("wrong number of uses", "cis490 token create --help", "a token admits 1 to %d hosts, not %d", maxUses, ask.Uses)
	}
	if err := ask.checkLife(a.o.Config.TokenTTL.D()); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	voided := slices.ContainsFunc(a.tokens.classes, func(c *class) bool { return c.pattern == ask.Pattern && c.open(a.o.Now()) })
	secret := newTokenSecret()
	expires := a.o.Now().Add(ask.TTL).UTC().Truncate(time.Second)
	t := wire.Token{
		Pattern: ask.Pattern, Receiver: a.o.PublicURL, Authority: a.o.Config.URL,
		Pin: string(pki.PinOf(a.pinned())), Secret: secret,
	}
	err := a.tokens.append(tokenEvent{Event: tokenMade, Secret: hashSecret(secret), Expires: expires, Pattern: ask.Pattern, Uses: ask.Uses, From: by})
	if err != nil {
		return nil, err
	}
	a.o.Log.Info("made a join token", "pattern", string(ask.Pattern), "uses", ask.Uses, "by", by, "expires", expires)
	return []Made{{Pattern: ask.Pattern, Uses: ask.Uses, Token: t.String(), Expires: expires, Voided: voided}}, nil
}

func (c *class) open(now time.Time) bool {
	return !c.revoked && c.used < c.uses && now.Before(c.expires)
}

func (a *Authority) revokeClass(p ident.Pattern, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.tokens.classes {
		if c.pattern == p && c.open(a.o.Now()) {
			a.o.Log.Info("revoked a join token", "pattern", string(p), "by", by)
			return a.tokens.append(tokenEvent{Event: tokenRevoked, Secret: c.secret, Pattern: p, From: by})
		}
	}
	return wrong("no open token", "sudo cis490 token list", "%s has no token that could be used", p)
}

// listClasses lists the tokens for many hosts.
func (b *tokenBook) listClasses() []TokenInfo {
	var all []TokenInfo
	for _, c := range b.classes {
		i := TokenInfo{Pattern: c.pattern, State: "open", Made: c.made, Expires: c.expires, Uses: c.uses, Used: c.used}
		switch {
		case c.revoked:
			i.State = "revoked"
		case c.used >= c.uses:
			i.State = "used"
		case !b.now().Before(c.expires):
			i.State = "expired"
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(x, y TokenInfo) int {
		return cmp.Or(strings.Compare(string(x.Pattern), string(y.Pattern)), x.Made.Compare(y.Made))
	})
	return all
}

// Name returns who a token is for, as tables show it.
func (i TokenInfo) Name() string {
	if i.Pattern != "" {
		return fmt.Sprintf("%s (%d of %d used)", i.Pattern, i.Used, i.Uses)
	}
	return string(i.Host)
}
