package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// MaxInvitation bounds the text of an invitation, in bytes.
const MaxInvitation = 1 << 20

// InvitationSchema is the version of the content of invitations.
const InvitationSchema = "cis490.invitation/1"

// invitationBlock is the PEM type. Errors and logs mask PEM blocks.
const invitationBlock = "CIS490 INVITATION"

// Invitation is what a machine needs to become one more receiver. It has secrets, among them
// those of the database and the object store. It is carried by a person; no server has it.
type Invitation struct {
	Schema  string            `json:"schema"`
	Token   string            `json:"token"` // see ParseServerToken
	Expires time.Time         `json:"expires"`
	Version string            `json:"version"`  // of the program that made it
	StoreID string            `json:"store_id"` // of the database and the bucket
	Config  string            `json:"config"`   // the settings that all receivers share, as receiver.toml
	Files   map[string]string `json:"files"`    // the content of files that the config names, by a name of theirs
}

// Text returns the text form, or an error if it is too long.
func (i Invitation) Text() (string, error) {
	content, err := Encode(i)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	block := pem.EncodeToMemory(&pem.Block{
		Type: invitationBlock, Headers: map[string]string{"Sha256": hex.EncodeToString(sum[:])}, Bytes: content,
	})
	if len(block) > MaxInvitation {
		return "", fmt.Errorf("the invitation has %d bytes, more than %d", len(block), MaxInvitation)
	}
	return string(block), nil
}

// errDamaged does not contain the text.
var errDamaged = errors.New("the invitation is cut or changed: pass on the whole text")

// ParseInvitation parses the text form, which may follow comments. Its errors have no secrets.
func ParseInvitation(text []byte) (i Invitation, t Token, err error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != invitationBlock || len(bytes.TrimSpace(rest)) > 0 {
		return i, t, errDamaged
	}
	sum := sha256.Sum256(block.Bytes)
	if block.Headers["Sha256"] != hex.EncodeToString(sum[:]) {
		return i, t, errDamaged
	}
	if err := Decode(block.Bytes, &i); err != nil {
		return i, t, errors.New("the invitation cannot be decoded: make a new one")
	}
	if i.Schema != InvitationSchema {
		return i, t, fmt.Errorf("the invitation is of version %.40q, this program knows %q", i.Schema, InvitationSchema)
	}
	t, err = ParseServerToken(i.Token)
	return i, t, err
}
