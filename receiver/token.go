package receiver

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"time"

	"cis490/internal/ident"
)

// Role is what the holder of a token may do. Each role may also do what those before it may.
type Role string

// The roles.
const (
	ReadData Role = "data"    // list, download and export episodes
	Read     Role = "read"    // see the fleet, its alerts and metrics
	Operate  Role = "operate" // silence alerts and write notes about hosts
	Release  Role = "release" // promote and withdraw releases
)

// Roles returns all roles.
func Roles() []Role { return []Role{ReadData, Read, Operate, Release} }

// May reports whether a role includes another one. One that is not known includes none.
func (r Role) May(need Role) bool {
	have := slices.Index(Roles(), r)
	return have >= 0 && have >= slices.Index(Roles(), need)
}

// Token is what the receiver knows of a token: only its digest is stored.
type Token struct {
	Name    string       `json:"name"` // who has it
	Role    Role         `json:"role"`
	Digest  ident.Digest `json:"sha256"` // of its text
	Created time.Time    `json:"created,omitzero"`
}

// DigestOf returns the digest of a token's text.
func DigestOf(text string) ident.Digest {
	sum := sha256.Sum256([]byte(text))
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// FindToken returns the token with a text. How long it takes does not depend on the text.
func FindToken(all []Token, text string) (found Token, ok bool) {
	sent := []byte(DigestOf(text))
	for _, t := range all {
		if subtle.ConstantTimeCompare(sent, []byte(t.Digest)) == 1 {
			found, ok = t, true
		}
	}
	return found, ok
}
