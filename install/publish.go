package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/manifest"
)

// publishRelease publishes the release directory that contains this binary, so that one
// folder on a USB stick sets up a receiver and all its hosts. It runs `cis490 release
// publish`, which has the rules.
func (p *Plan) publishRelease(releases string) step {
	return step{"release", func(context.Context) ([]Change, error) {
		dir := filepath.Dir(p.Binary)
		if p.image() || p.installed() || !disk.Exists(p.FS, filepath.Join(dir, manifest.SignatureFile)) {
			return nil, nil
		}
		keys, err := disk.ReadFile(p.FS, filepath.Join(p.rx.Authority.Dir, "release-keys"), maxText)
		if errors.Is(err, fs.ErrNotExist) {
			keys, err = disk.ReadFile(p.FS, filepath.Join(dir, manifest.PublicKeyFile), maxText)
		}
		if err != nil {
			return nil, fmt.Errorf("read release keys: %w", err)
		}
		ring, err := manifest.ParseKeyring(string(keys))
		if err != nil {
			return nil, err
		}
		b, err := manifest.ReadDirectory(p.FS, dir, ring)
		if err != nil {
			// The machine becomes a receiver anyway.
			return []Change{note(fmt.Sprintf("%s is not published: %v", dir, err))}, nil
		}
		if same, err := b.Same(p.FS, releases); err != nil || same {
			if err != nil {
				return []Change{note(fmt.Sprintf("%s is not published: %v", dir, err))}, nil
			}
			return nil, nil
		}
		if all, err := manifest.List(p.FS, releases); err == nil && len(all) > 0 && b.Manifest.Seq < all[0].Manifest.Seq {
			const text = "%s is not published: seq %d is lower than %d, which is published"
			return []Change{note(fmt.Sprintf(text, dir, b.Manifest.Seq, all[0].Manifest.Seq))}, nil
		}
		cmd := []string{p.Binary, "release", "publish", dir}
		return []Change{{
			What:     fmt.Sprintf("release %s, seq %d, is not published: publish it", b.Manifest.Version, b.Manifest.Seq),
			Done:     "published",
			Object:   fmt.Sprintf("release %s, seq %d", b.Manifest.Version, b.Manifest.Seq),
			Commands: []string{fmt.Sprintf("%s release publish %s", p.Binary, dir)},
			apply:    func(ctx context.Context) error { return execute(ctx, cmd[0], cmd[1:]...) },
		}}, nil
	}}
}
