package wire

import (
	"encoding/base64"

	"cis490/internal/ident"
)

// parseLongToken parses a token in the form of older receivers, about 350 characters of
// base64url: it lives for up to a year after an update.
func parseLongToken(body string) (Token, error) {
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return Token{}, errCut
	}
	var t Token
	if err := Decode(b, &t); err != nil {
		return Token{}, errCut
	}
	if err := t.check(); err != nil {
		return Token{}, err
	}
	if _, err := ident.ParseDigest(t.Pin); err != nil {
		return Token{}, errCut
	}
	return t, nil
}
