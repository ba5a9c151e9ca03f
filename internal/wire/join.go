package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"cis490/internal/ident"
)

// JoinNonceBytes is the size of a nonce of a join request.
const JoinNonceBytes = 16

// JoinRequest is the body of the authority's POST /v1/cert/{host}/join: a machine without a
// token asks a person to admit it.
type JoinRequest struct {
	Root       ident.Digest `json:"root"`       // sha256 of the root by which the machine verified this connection
	Commitment ident.Digest `json:"commitment"` // CommitJoin of the machine's nonce
}

// JoinStarted answers a JoinRequest. ID proves to the authority which machine asks again.
type JoinStarted struct {
	ID       string `json:"id"`
	Nonce    string `json:"nonce"`            // hex digits
	Expires  int    `json:"expires_seconds"`  // until the request is dropped
	Interval int    `json:"interval_seconds"` // shortest time between two JoinWaits
}

// JoinWait is the body of POST /v1/cert/{host}/join/wait. The nonce fits the commitment.
type JoinWait struct {
	ID    string `json:"id"`
	Nonce string `json:"nonce"`
}

// JoinAnswer answers a JoinWait.
type JoinAnswer struct {
	Token string `json:"token,omitempty"` // a join token; empty: not approved yet
}

// AuthorityAddress is the receiver's answer to GET /v1/authority.
type AuthorityAddress struct {
	URL string `json:"url"`
}

// CommitJoin returns what a machine commits to before it knows the authority's nonce.
func CommitJoin(nonce string) ident.Digest {
	sum := sha256.Sum256([]byte("cis490 join commitment\n" + nonce))
	return ident.Digest(hex.EncodeToString(sum[:]))
}

// JoinCode returns the six digits that machine and authority compute; only the machine shows
// them. They are equal only if both see the same root and host. An attacker between them has
// to choose both nonces that it sends before it sees those of machine and authority, so its
// digits match with a chance of one in a million.
func JoinCode(root ident.Digest, h ident.Host, machine, authority string) string {
	sum := sha256.Sum256([]byte("cis490 join code\n" + string(root) + "\n" + string(h) + "\n" + machine + "\n" + authority))
	return fmt.Sprintf("%06d", binary.BigEndian.Uint64(sum[:])%1_000_000)
}
