package update

import (
	"crypto"
	_ "crypto/sha256" // the hash that selfupdate looks up
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/selfupdate"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

// prepare uses selfupdate to verify and write content, and makes the result durable, which
// selfupdate does not. It does not use selfupdate's commit, which leaves a moment without a
// binary. selfupdate reads everything into memory, so the content is bounded.
func prepare(content io.Reader, target string, d ident.Digest) error {
	sum, err := hex.DecodeString(string(d))
	if err != nil {
		return err
	}
	fsys := disk.OS{} // selfupdate writes to it
	written := filepath.Join(filepath.Dir(target), "."+filepath.Base(target)+".new")
	if err := fsys.Remove(written); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = selfupdate.PrepareAndCheckBinary(io.LimitReader(content, manifest.MaxBinary+1), selfupdate.Options{
		TargetPath: target, TargetMode: 0o755, Checksum: sum, Hash: crypto.SHA256, OldSavePath: target + ".old",
	})
	if err != nil {
		_ = fsys.Remove(written) // the first error matters
		return err
	}
	if err := disk.Chmod(fsys, written, 0o755); err != nil {
		return err
	}
	f, err := fsys.OpenFile(written, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	// selfupdate ignores errors of Close, so check the file itself.
	err = f.Sync()
	if fi, serr := f.Stat(); serr != nil || fi.Size() == 0 {
		err = errors.Join(err, serr, fmt.Errorf("%s is empty", written))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(written, target); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(target))
}
