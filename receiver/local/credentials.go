package local

import (
	"errors"
	"path/filepath"
	"strings"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/receiver"
)

// maxToken bounds the file of the operator token, in bytes.
const maxToken = 4 << 10

// Credentials returns the credentials that a config names.
func Credentials(fsys disk.FS, c config.Receiver) receiver.Credentials {
	out := receiver.Credentials{
		Data:  dataTokens(fsys, c),
		Trust: pki.NewBundle(fsys, filepath.Join(c.Authority.Dir, "trust.pem")),
		Operator: func() (string, error) {
			text, err := disk.ReadText(fsys, c.Operator, maxToken)
			token := strings.TrimSpace(text)
			if err == nil && token == "" {
				err = errors.New("the file is empty")
			}
			return token, err
		},
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
