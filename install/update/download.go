package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"cis490/internal/disk"
	"cis490/internal/manifest"
)

const (
	packedSuffix = ".zst"  // of a compressed download
	packedExtra  = 1 << 10 // bytes by which it may be larger than its content
)

// download fetches a blob, compressed if the source has it so. It continues an interrupted
// download and reads and unpacks at most the size in the manifest.
func (u *Updater) download(ctx context.Context, want manifest.Blob) (path string, err error) {
	path = u.path(fetchDir, string(want.Digest)+unverified)
	have := u.size(path)
	if have == want.Size {
		return path, nil
	}
	if have > want.Size {
		if err := u.remove(path); err != nil {
			return "", err
		}
		have = 0
	}
	packed := have == 0
	if packed {
		have = u.size(path + packedSuffix)
	}
	c, err := u.o.Source.Blob(ctx, want.Digest, have, packed)
	if err == nil && packed && !c.Packed && have > 0 { // the source has no compressed file any more
		if err := errors.Join(c.Close(), u.remove(path+packedSuffix)); err != nil {
			return "", err
		}
		have = 0
		c, err = u.o.Source.Blob(ctx, want.Digest, have, false)
	}
	if err != nil {
		return "", err
	}
	if c.Packed {
		if err := u.receive(c, path+packedSuffix, have, want.Size+packedExtra); err != nil {
			return "", err
		}
		return path, u.unpack(path, want.Size)
	}
	if err := u.receive(c, path, have, want.Size); err != nil {
		return "", err
	}
	if have = u.size(path); have < want.Size {
		return "", fmt.Errorf("interrupted after %d of %d bytes", have, want.Size)
	}
	return path, nil
}

// size returns a file's size, 0 if there is none.
func (u *Updater) size(path string) int64 {
	fi, err := u.o.FS.Lstat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// receive appends content to a file that has some bytes of it, up to a limit.
func (u *Updater) receive(c Content, path string, have, limit int64) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	f, err := u.o.FS.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if c.From != have { // another offset: start over
		err = f.Truncate(0)
		have = 0
		if err == nil && c.From != 0 {
			err = fmt.Errorf("the answer starts at byte %d", c.From)
		}
	}
	var n int64
	if err == nil {
		n, err = io.Copy(f, io.LimitReader(c, limit-have+1))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if have+n > limit {
		return errors.Join(fmt.Errorf("the download exceeds the %d bytes in the manifest", limit), u.remove(path))
	}
	return nil
}

// unpack replaces a compressed download by its content. It removes a damaged one: the next
// run starts over.
func (u *Updater) unpack(path string, size int64) error {
	packed, err := u.o.FS.OpenFile(path+packedSuffix, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = disk.Replace(u.o.FS, path, 0o600, func(w io.Writer) error { return manifest.Unpack(w, packed, size) })
	if err != nil {
		err = fmt.Errorf("unpack the download: %w", err)
	}
	return errors.Join(err, packed.Close(), u.remove(path+packedSuffix))
}
