package authority_test

import (
	"crypto/sha256"
	"encoding/hex"

	"cis490/internal/ident"
)

func digestOf(secret string) ident.Digest {
	sum := sha256.Sum256([]byte(secret))
	return ident.Digest(hex.EncodeToString(sum[:]))
}
