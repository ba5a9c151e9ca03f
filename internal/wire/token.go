package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"cis490/internal/ident"
)

// Prefixes start every join token, so that people and secret scanners recognize it, and a
// host's is not taken for a receiver's.
const (
	tokenPrefix  = "c490."
	serverPrefix = "c490rx."
)

// The parts of a token's body, in bytes. The pin is the start of a sha256: to forge a root
// for it takes 2^128 attempts.
const (
	pinBytes    = 16
	secretBytes = 16
	sumBytes    = 4
)

// AuthorityPort is the authority's port where the config names no other.
const AuthorityPort = "8444"

// errCut does not contain the token.
var errCut = errors.New("join token is cut or changed: paste the whole line")

// Token is a join token: what a new machine needs to become a lab host. It is for a host, or
// for any host whose name matches a pattern. Its text is
//
//	c490.NAME@RECEIVER[,AUTHORITY]/BODY
//
// NAME is the host or the pattern. RECEIVER and AUTHORITY are their URLs without https://; AUTHORITY is
// absent if it is AuthorityPort of the receiver's machine, and only :PORT on that machine.
// BODY is pin, secret and checksum of the whole in base64url, 48 characters.
type Token struct {
	Host      ident.Host    `json:"host"`
	Pattern   ident.Pattern `json:"-"`         // instead of a host
	Receiver  string        `json:"receiver"`  // URL
	Authority string        `json:"authority"` // URL
	Pin       string        `json:"pin"`       // first 32 to 64 hex digits of the sha256 of the server root's DER
	Secret    string        `json:"secret"`    // sent only to a server with that root
	// Server means that Host names another receiver, which gets a server certificate. The text
	// then starts with c490rx.
	Server bool `json:"-"`
}

// NewTokenSecret returns the text form of a token's secret, which are 16 random bytes.
func NewTokenSecret(random [secretBytes]byte) string {
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// Pinned reports whether the token names a root with this sha256.
func (t Token) Pinned(root ident.Digest) bool {
	return len(t.Pin) >= 2*pinBytes && strings.HasPrefix(string(root), t.Pin)
}

// Name returns the host or the pattern.
func (t Token) Name() string { return string(t.Host) + string(t.Pattern) }

// For reports whether a host may use the token.
func (t Token) For(h ident.Host) bool {
	if t.Pattern != "" {
		return t.Pattern.Match(h)
	}
	return t.Host == h
}

// String returns the token's text form. It needs a pin of at least 32 digits and a secret of
// NewTokenSecret.
func (t Token) String() string {
	head := t.Name() + "@" + address(t.Receiver)
	if short := shortAuthority(t.Receiver, t.Authority); short != "" {
		head += "," + short
	}
	pin, err := hex.DecodeString(t.Pin[:min(len(t.Pin), 2*pinBytes)])
	secret, err2 := base64.RawURLEncoding.DecodeString(t.Secret)
	if err != nil || err2 != nil || len(pin) != pinBytes || len(secret) != secretBytes {
		return "" // not a token of NewTokenSecret and PinOf
	}
	body := slices.Concat(pin, secret)
	prefix := tokenPrefix
	if t.Server {
		prefix = serverPrefix
	}
	return prefix + head + "/" + base64.RawURLEncoding.EncodeToString(slices.Concat(body, checksum(prefix+head, body)))
}

// ParseToken parses the text form of a host's token. It ignores surrounding blanks and a byte
// order mark. Its errors never contain the token.
func ParseToken(s string) (Token, error) {
	text, ok := strings.CutPrefix(trimToken(s), tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("join token does not start with %q", tokenPrefix)
	}
	if !strings.Contains(text, "@") {
		return parseLongToken(text)
	}
	return parseToken(tokenPrefix, text)
}

// ParseServerToken parses the text form of a receiver's token.
func ParseServerToken(s string) (Token, error) {
	text, ok := strings.CutPrefix(trimToken(s), serverPrefix)
	if !ok {
		return Token{}, fmt.Errorf("a receiver's join token does not start with %q", serverPrefix)
	}
	t, err := parseToken(serverPrefix, text)
	if t.Server = true; err == nil && t.Pattern != "" {
		err = errors.New("a receiver's join token is for one name")
	}
	return t, err
}

func trimToken(s string) string { return strings.TrimSpace(strings.TrimPrefix(s, "\ufeff")) }

func parseToken(prefix, text string) (Token, error) {
	i := strings.LastIndexByte(text, '/')
	if i < 0 {
		return Token{}, errCut
	}
	head := text[:i]
	b, err := base64.RawURLEncoding.DecodeString(text[i+1:])
	if err != nil || len(b) != pinBytes+secretBytes+sumBytes {
		return Token{}, errCut
	}
	body, sum := b[:pinBytes+secretBytes], b[pinBytes+secretBytes:]
	if !bytes.Equal(sum, checksum(prefix+head, body)) {
		return Token{}, errCut
	}
	name, urls, _ := strings.Cut(head, "@")
	rx, auth, _ := strings.Cut(urls, ",")
	t := Token{
		Receiver: "https://" + rx, Pin: hex.EncodeToString(body[:pinBytes]),
		Secret: base64.RawURLEncoding.EncodeToString(body[pinBytes:]),
	}
	if strings.Contains(name, "*") {
		t.Pattern, err = ident.ParsePattern(name)
	} else {
		t.Host, err = ident.ParseHost(name)
	}
	if err != nil {
		return Token{}, errors.New("join token has no valid host name: create a new one")
	}
	t.Authority = longAuthority(t.Receiver, auth)
	return t, t.check()
}

func (t Token) check() error {
	if t.Name() == "" || t.Pin == "" || t.Secret == "" || !isHTTPS(t.Receiver) || !isHTTPS(t.Authority) {
		return errors.New("join token is incomplete: create a new one")
	}
	return nil
}

func checksum(head string, body []byte) []byte {
	sum := sha256.Sum256(append([]byte(head+"/"), body...))
	return sum[:sumBytes]
}

// address returns a URL without its scheme.
func address(u string) string { return strings.TrimSuffix(strings.TrimPrefix(u, "https://"), "/") }

// shortAuthority returns the authority's address as a token has it.
func shortAuthority(receiver, authority string) string {
	rx, err1 := url.Parse(receiver)
	auth, err2 := url.Parse(authority)
	switch {
	case err1 != nil || err2 != nil || rx.Hostname() != auth.Hostname() || auth.Port() == "":
		return address(authority)
	case auth.Port() == AuthorityPort:
		return ""
	}
	return ":" + auth.Port()
}

// longAuthority returns the URL that shortAuthority shortened.
func longAuthority(receiver, short string) string {
	if short != "" && short[0] != ':' {
		return "https://" + short
	}
	rx, err := url.Parse(receiver)
	if err != nil {
		return ""
	}
	port := AuthorityPort
	if short != "" {
		port = short[1:]
	}
	return "https://" + net.JoinHostPort(rx.Hostname(), port)
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != ""
}
