package authority

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/wire"
)

// tokenEvent is a row of tokens.jsonl. It has the digest of the secret.
type tokenEvent struct {
	At       time.Time    `json:"at"`
	Host     ident.Host   `json:"host,omitempty"`
	Event    string       `json:"event"` // made, bound or revoked
	Secret   ident.Digest `json:"secret_sha256"`
	Expires  time.Time    `json:"expires,omitzero"`
	Replaces ident.Host   `json:"replaces,omitempty"`
	Key      ident.Digest `json:"key,omitempty"` // of the host that the token is bound to
	From     string       `json:"from,omitempty"`
	// A row with a pattern and without a host is about the pattern's token; one with both is
	// about the token that a host got from it.
	Pattern ident.Pattern `json:"pattern,omitempty"`
	Uses    int           `json:"uses,omitempty"`
}

const (
	tokenMade    = "made"
	tokenBound   = "bound"
	tokenRevoked = "revoked"
)

// token is a join token of one host.
type token struct {
	host     ident.Host
	secret   ident.Digest // sha256 of the secret
	made     time.Time
	expires  time.Time
	replaces ident.Host
	key      ident.Digest // "" until the first use
	from     string       // of the first use
	revoked  bool
	misused  time.Time // when a misuse was last recorded
}

// rememberExpired is how long an expired token is remembered, so that its rejection names
// the reason.
const rememberExpired = 30 * 24 * time.Hour

// tokenStore is the state of tokens.jsonl. The authority's mutex guards it.
type tokenStore struct {
	file     journal
	hosts    map[ident.Host][]*token
	patterns []*patternToken
	now      func() time.Time
}

func openTokens(f journal, fsys disk.FS, path string, now func() time.Time) (*tokenStore, error) {
	b := &tokenStore{file: f, hosts: make(map[ident.Host][]*token), now: now}
	for row, err := range ledger.Rows(fsys, path, timeKey, time.Time{}) {
		if err != nil {
			return b, err
		}
		var e tokenEvent
		if json.Unmarshal(row.Line, &e) == nil && (e.Host != "" || e.Pattern != "") {
			b.apply(e)
		}
	}
	return b, nil
}

// append makes an event durable and applies it.
func (b *tokenStore) append(e tokenEvent) error {
	err := b.write(e)
	if err == nil {
		b.apply(e)
	}
	return err
}

func (b *tokenStore) write(e tokenEvent) error {
	return b.file.Append(func(at time.Time) any {
		e.At = at
		return e
	})
}

func (b *tokenStore) apply(e tokenEvent) {
	if e.Host == "" {
		b.applyPattern(e)
		return
	}
	for _, c := range b.patterns {
		if e.Event == tokenMade && c.secret == e.Secret {
			c.used++
		}
	}
	if e.Event == tokenMade {
		// A new token revokes the older ones of its host.
		var keep []*token
		for _, t := range b.hosts[e.Host] {
			if b.now().Sub(t.expires) < rememberExpired {
				t.revoked = true
				keep = append(keep, t)
			}
		}
		b.hosts[e.Host] = append(keep, &token{host: e.Host, secret: e.Secret, made: e.At, expires: e.Expires, replaces: e.Replaces})
		return
	}
	for _, t := range b.hosts[e.Host] {
		if t.secret != e.Secret {
			continue
		}
		switch e.Event {
		case tokenBound:
			t.key, t.from = e.Key, e.From
		case tokenRevoked:
			t.revoked = true
		}
	}
}

// find returns the host's token with this secret, or nil. It compares every token of the
// host in constant time.
func (b *tokenStore) find(h ident.Host, secret string) *token {
	given := []byte(hashSecret(secret))
	var found *token
	for _, t := range b.hosts[h] {
		if subtle.ConstantTimeCompare(given, []byte(t.secret)) == 1 {
			found = t
		}
	}
	return found
}

// usable returns the host's token that is neither revoked nor expired, or nil.
func (b *tokenStore) usable(h ident.Host) *token {
	for _, t := range b.hosts[h] {
		if !t.revoked && b.now().Before(t.expires) {
			return t
		}
	}
	return nil
}

// revokeAll revokes all tokens of a host, also expired ones: the clock may be set back.
func (b *tokenStore) revokeAll(h ident.Host, by string) error {
	for _, t := range b.hosts[h] {
		if t.revoked {
			continue
		}
		if err := b.append(tokenEvent{Host: h, Event: tokenRevoked, Secret: t.secret, From: by}); err != nil {
			return err
		}
	}
	return nil
}

// newTokenSecret returns the secret of a new join token.
func newTokenSecret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return wire.NewTokenSecret(b)
}

// newSecret returns 256 random bits as text.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func hashSecret(s string) ident.Digest {
	sum := sha256.Sum256([]byte(s))
	return ident.Digest(hex.EncodeToString(sum[:]))
}
