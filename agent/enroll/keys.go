package enroll

import (
	"context"
	"net/http"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// takeKeys stores the authority's release keys if this host has none, because it enrolled
// before the first release. It never replaces keys: releases themselves introduce the next
// key. It stays silent if the authority has none or does not answer.
func (e *Enroller) takeKeys(ctx context.Context) error {
	if disk.Exists(e.o.FS, e.path(ReleaseKeysFile)) {
		return nil
	}
	roots, err := e.roots()
	if err != nil {
		return nil // without a root, enrollment comes first
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
	e.o.Log.Info("installed release keys from the authority", "path", e.path(ReleaseKeysFile))
	return nil
}
