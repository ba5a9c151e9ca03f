package checks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/manifest"
)

// maxKeys bounds the file of release keys.
const maxKeys = 16 << 10

// releases checks that hosts with this receiver's release keys can install the published
// release.
func (r *registry) releases(context.Context) check.Result {
	all, err := r.Backend.Releases.List()
	switch {
	case err != nil:
		return machine.Unreadable(err)
	case len(all) == 0:
		return check.Skipf("no release is published yet")
	}
	keys, err := disk.ReadFile(disk.OS{}, r.authority("release-keys"), maxKeys)
	if errors.Is(err, fs.ErrNotExist) {
		return check.Failf("%s is not there, though releases are published", r.authority("release-keys"))
	}
	if err != nil {
		return machine.Unreadable(err)
	}
	ring, err := manifest.ParseKeyring(string(keys))
	if err != nil {
		return check.Failf("%s: %v", r.authority("release-keys"), err)
	}
	progress, err := r.Backend.Releases.Rollout()
	if err != nil {
		return machine.Unreadable(err)
	}
	for _, p := range all {
		if g := progress.Of(p.Manifest.Seq); g != nil && g.Stage == manifest.StageWithdrawn {
			continue
		}
		m, _, err := ring.Open([]byte(p.Offer.Manifest), []byte(p.Offer.Signature))
		if err != nil {
			return check.Failf("release %s, seq %d: %v", check.Sanitize(p.Manifest.Version, 40), p.Manifest.Seq, err)
		}
		for _, b := range m.Blobs() {
			if size, err := r.Backend.Releases.BlobSize(b.Digest); err != nil || size != b.Size {
				return check.Failf(
					"release %s, seq %d: its file %.12s… is not there, or not of its size", check.Sanitize(m.Version, 40), m.Seq, b.Digest,
				)
			}
		}
		break // only the newest is offered; older ones may be signed by retired keys
	}
	return check.Passf("%s", fmt.Sprintf("%d published, newest version %s", len(all), check.Sanitize(all[0].Manifest.Version, 40)))
}
