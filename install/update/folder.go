package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/wire"
)

// Folder is the receiver's own Source: its folder of releases. It works while serve does
// not, so that the receiver is the first to run a new release.
type Folder struct {
	FS       disk.FS
	Dir      string
	OS, Arch string
}

var _ Source = Folder{}

// Look returns the newest release that is not withdrawn and has a binary for this machine.
func (f Folder) Look(_ context.Context, tag string) (wire.Offer, string, error) {
	all, err := manifest.List(f.FS, f.Dir)
	if err != nil {
		return wire.Offer{}, "", err
	}
	rollout, err := manifest.ReadRollout(f.FS, f.Dir)
	if err != nil {
		return wire.Offer{}, "", err
	}
	orders, err := manifest.Orders(f.FS, f.Dir)
	if err != nil {
		return wire.Offer{}, "", err
	}
	withdrawn := map[uint64]bool{}
	for _, p := range rollout.Releases {
		withdrawn[p.Seq] = p.Stage == manifest.StageWithdrawn
	}
	for _, o := range orders { // including orders that serve has not carried out yet
		if p := rollout.Of(o.Seq); o.Verb != manifest.OrderPublish && (p == nil || o.At.After(p.Ordered)) {
			withdrawn[o.Seq] = o.Verb == manifest.OrderWithdraw
		}
	}
	for _, p := range all {
		if _, ok := p.Manifest.For(f.OS, f.Arch); !ok || withdrawn[p.Manifest.Seq] {
			continue
		}
		sum := sha256.Sum256([]byte(p.Offer.Manifest + p.Offer.Signature))
		if now := hex.EncodeToString(sum[:]); now != tag {
			return p.Offer, now, nil
		}
		return wire.Offer{}, tag, ErrUnchanged
	}
	return wire.Offer{}, "", ErrNothing
}

// Blob opens a published blob.
func (f Folder) Blob(_ context.Context, d ident.Digest, offset int64, _ bool) (Content, error) {
	file, err := f.FS.OpenFile(manifest.BlobPath(f.Dir, d), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Content{}, fmt.Errorf("binary %s is not published here", d)
	}
	if err != nil {
		return Content{}, err
	}
	return Content{ReadCloser: struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, offset, manifest.MaxBinary+1-offset), file}, From: offset}, nil
}
