package local

import (
	"path/filepath"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/receiver"
)

// Credentials returns the credentials that a config names.
func Credentials(fsys disk.FS, c config.Receiver) receiver.Credentials {
	out := receiver.Credentials{
		Tokens: tokens(fsys, c),
		Trust:  pki.NewBundle(fsys, filepath.Join(c.Authority.Dir, "trust.pem")),
	}
	switch {
	case c.TLS.Mode != "direct":
	case c.TLS.Certificate != "":
		out.Pair = pki.NewPairOf(c.TLS.Certificate, c.TLS.Key)
	default:
		out.Pair = pki.NewPair(fsys, filepath.Join(c.Authority.Dir, "server.pem"))
	}
	return out
}
