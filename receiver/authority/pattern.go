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
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/roster"
)

// maxUses bounds the hosts that one token admits.
const maxUses = 1000

// patternToken is a join token for a number of hosts whose names match a pattern. Each host
// that uses it gets a token of its own with the same secret, bound to its key.
type patternToken struct {
	pattern ident.Pattern
	secret  ident.Digest
	made    time.Time
	expires time.Time
	uses    int
	used    int
	revoked bool
}

// applyPattern applies an event of a pattern's token.
func (b *tokenStore) applyPattern(e tokenEvent) {
	switch e.Event {
	case tokenMade:
		// A new token revokes the older one of its pattern.
		b.patterns = slices.DeleteFunc(b.patterns, func(c *patternToken) bool { return b.now().Sub(c.expires) >= rememberExpired })
		for _, c := range b.patterns {
			c.revoked = c.revoked || c.pattern == e.Pattern
		}
		b.patterns = append(b.patterns, &patternToken{pattern: e.Pattern, secret: e.Secret, made: e.At, expires: e.Expires, uses: e.Uses})
	case tokenRevoked:
		for _, c := range b.patterns {
			c.revoked = c.revoked || c.secret == e.Secret
		}
	}
}

// findPattern returns the pattern's token with this secret, or nil.
func (b *tokenStore) findPattern(secret string) *patternToken {
	given := []byte(hashSecret(secret))
	var found *patternToken
	for _, c := range b.patterns {
		if subtle.ConstantTimeCompare(given, []byte(c.secret)) == 1 {
			found = c
		}
	}
	return found
}

// admitByPattern creates the host's own token if the secret is that of a pattern's token.
func (a *Authority) admitByPattern(h ident.Host, host roster.Host, secret string, csrErr error, from string) (*token, error) {
	c := a.tokens.findPattern(secret)
	switch {
	case c == nil:
		return nil, wire.NewProblem(wire.BadToken, "there is no such token for %s", h)
	case !c.pattern.Match(h):
		return nil, wire.NewProblem(wire.BadToken, "this token is for hosts with names like %s, not for %s", c.pattern, h)
	case c.revoked:
		return nil, wire.NewProblem(wire.BadToken, "this token for %s was revoked or replaced by a newer one", c.pattern)
	case !a.o.Now().Before(c.expires):
		return nil, wire.NewProblem(wire.TokenExpired, "it expired at %s", plain.Time(c.expires))
	case csrErr != nil:
		return nil, wire.NewProblem(wire.BadCSR, "%v", csrErr)
	case host.State == roster.Gone:
		return nil, decommissioned(h, host)
	case host.State != "":
		// The token of a whole room must not give the identity of an existing host.
		return nil, wire.NewProblem(wire.BadToken, "%s is %s: a token for many hosts admits only new ones", h, host.State)
	case c.used >= c.uses:
		return nil, wire.NewProblem(wire.BadToken, "this token for %s has reached its limit of %d hosts", c.pattern, c.used)
	}
	err := a.tokens.append(tokenEvent{
		Host: h, Event: tokenMade, Secret: c.secret, Expires: c.expires, Pattern: c.pattern, From: from,
	})
	return a.tokens.find(h, secret), err
}

// createPatternToken creates a token for many hosts.
func (a *Authority) createPatternToken(ask TokenRequest, by string) ([]CreatedToken, error) {
	switch {
	case len(ask.Hosts) > 0 || ask.Replaces != "":
		return nil, invalid("hosts or a pattern", "cis490 token create --help", "a token is for one pattern, or for named hosts")
	case ask.Uses < 1 || ask.Uses > maxUses:
		return nil, invalid("wrong number of uses", "cis490 token create --help", "a token admits 1 to %d hosts, not %d", maxUses, ask.Uses)
	}
	if err := ask.checkLife(a.o.Config.TokenTTL.D()); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	voided := slices.ContainsFunc(a.tokens.patterns, func(c *patternToken) bool { return c.pattern == ask.Pattern && c.open(a.o.Now()) })
	secret := newTokenSecret()
	expires := a.o.Now().Add(ask.TTL).UTC().Truncate(time.Second)
	t := wire.Token{
		Pattern: ask.Pattern, Receiver: a.o.PublicURL, Authority: a.o.Config.URL,
		Pin: string(pki.PinOf(a.pinnedRoot())), Secret: secret,
	}
	err := a.tokens.append(tokenEvent{
		Event: tokenMade, Secret: hashSecret(secret), Expires: expires, Pattern: ask.Pattern, Uses: ask.Uses, From: by,
	})
	if err != nil {
		return nil, err
	}
	a.o.Log.Info("created a join token", "pattern", string(ask.Pattern), "uses", ask.Uses, "by", by, "expires", expires)
	return []CreatedToken{{Pattern: ask.Pattern, Uses: ask.Uses, Token: t.String(), Expires: expires, Voided: voided}}, nil
}

func (c *patternToken) open(now time.Time) bool {
	return !c.revoked && c.used < c.uses && now.Before(c.expires)
}

func (a *Authority) revokePattern(p ident.Pattern, by string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.tokens.patterns {
		if c.pattern == p && c.open(a.o.Now()) {
			a.o.Log.Info("revoked a join token", "pattern", string(p), "by", by)
			return a.tokens.append(tokenEvent{Event: tokenRevoked, Secret: c.secret, Pattern: p, From: by})
		}
	}
	return invalid("no open token", "sudo cis490 token list", "%s has no token that could be used", p)
}

// listPatterns lists the tokens of patterns.
func (b *tokenStore) listPatterns() []TokenInfo {
	var all []TokenInfo
	for _, c := range b.patterns {
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

// Name returns the host or the pattern of a token, as tables show it.
func (i TokenInfo) Name() string {
	if i.Pattern != "" {
		return fmt.Sprintf("%s (%d of %d used)", i.Pattern, i.Used, i.Uses)
	}
	return string(i.Host)
}
