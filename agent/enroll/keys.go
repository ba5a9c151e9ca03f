package enroll

import (
	"context"
	"net/http"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// takeKeys asks the authority, whose certificate is verified, for the release
// keys, where this host has none: it was enrolled before there were any. What is
// there is never replaced: from then on releases themselves bring the next key.
// That there are none yet, or nobody answers, is not worth a word.
func (e *Enroller) takeKeys(ctx context.Context) error {
	if disk.Exists(e.o.FS, e.path(ReleaseKeysFile)) {
		return nil
	}
	roots, err := e.roots()
	if err != nil {
		return nil // a host without a root has other things to do first
	}
	b, err := e.send(ctx, pki.ClientTLS(roots, nil), http.MethodGet, strings.TrimSuffix(e.o.Authority, "/")+wire.AuthorityHealthPath, nil)
	var health wire.AuthorityHealth
	if err != nil || wire.Decode(b, &health) != nil || len(health.ReleaseKeys) == 0 {
		return nil // the next run asks again
	}
	text := strings.Join(health.ReleaseKeys, "\n") + "\n"
	if err := disk.ReplaceBytes(e.o.FS, e.path(ReleaseKeysFile), 0o644, []byte(text)); err != nil {
		return err
	}
	e.o.Log.Info("took release keys from the authority", "path", e.path(ReleaseKeysFile))
	return nil
}
