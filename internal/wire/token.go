package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cis490/internal/ident"
)

// tokenPrefix starts every join token, so that people and secret scanners recognize it.
const tokenPrefix = "c490."

// Token is a join token: what a new machine needs to become a certain lab host.
type Token struct {
	Host      ident.Host   `json:"host"`
	Receiver  string       `json:"receiver"`  // URL
	Authority string       `json:"authority"` // URL
	Pin       ident.Digest `json:"pin"`       // sha256 of the server root's DER; checked before Secret is sent
	Secret    string       `json:"secret"`
}

// String returns the token's text form.
func (t Token) String() string {
	b, err := json.Marshal(t)
	if err != nil { // cannot fail: strings only
		return ""
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken parses a token's text form. It ignores surrounding blanks and a byte order
// mark. Its errors never contain the token.
func ParseToken(s string) (Token, error) {
	var t Token
	body, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(s, "\ufeff")), tokenPrefix)
	if !ok {
		return t, fmt.Errorf("join token does not start with %q", tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return t, errors.New("join token is cut or changed: paste the whole line")
	}
	if err := Decode(b, &t); err != nil {
		return Token{}, errors.New("join token is cut or changed: paste the whole line")
	}
	if t.Host == "" || t.Pin == "" || t.Secret == "" || !isHTTPS(t.Receiver) || !isHTTPS(t.Authority) {
		return Token{}, errors.New("join token is incomplete: create a new one")
	}
	return t, nil
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != ""
}
