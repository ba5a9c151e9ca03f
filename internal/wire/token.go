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

// tokenPrefix starts every join token, so that a person and a secret scanner
// know one when they see it.
const tokenPrefix = "c490."

// Token is a join token: what a new machine needs to become one named lab host.
type Token struct {
	Host      ident.Host   `json:"host"`
	Receiver  string       `json:"receiver"`  // URL
	Authority string       `json:"authority"` // URL
	Pin       ident.Digest `json:"pin"`       // sha256 of the server root's DER; checked before Secret is sent
	Secret    string       `json:"secret"`
}

// String returns the token as it is pasted.
func (t Token) String() string {
	b, err := json.Marshal(t)
	if err != nil { // strings only: cannot be
		return ""
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads a token as it was pasted; surrounding blanks, and the mark that
// Windows puts before a text, do not matter.
// Its errors never show the token.
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
		return Token{}, errors.New("join token lacks a part: make a new one")
	}
	return t, nil
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != ""
}
