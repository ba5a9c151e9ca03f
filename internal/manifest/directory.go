package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Bundle is a complete release from a release directory: a signed manifest, and all files
// that it names.
type Bundle struct {
	Manifest  Manifest
	Signer    Key
	manifest  []byte
	signature []byte
	blobs     map[ident.Digest][]byte
}

// ReadDirectory reads a release directory whose manifest was signed by a key of the ring.
// It returns an error if a file is missing or differs.
func ReadDirectory(fsys disk.FS, dir string, ring Keyring) (Bundle, error) {
	b := Bundle{blobs: map[ident.Digest][]byte{}}
	var err error
	if b.manifest, err = disk.ReadFile(fsys, filepath.Join(dir, ManifestFile), MaxManifest); err != nil {
		return Bundle{}, err
	}
	if b.signature, err = disk.ReadFile(fsys, filepath.Join(dir, SignatureFile), maxSignature); err != nil {
		return Bundle{}, err
	}
	if b.Manifest, b.Signer, err = ring.Open(b.manifest, b.signature); err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", filepath.Join(dir, ManifestFile), err)
	}
	take := func(name string, want Blob) error {
		content, err := disk.ReadFile(fsys, filepath.Join(dir, name), want.Size)
		if err != nil {
			return err
		}
		if got := digestOf(content); got != want.Digest {
			return fmt.Errorf("%s has sha256 %s, the manifest says %s", filepath.Join(dir, name), got, want.Digest)
		}
		b.blobs[want.Digest] = content
		return nil
	}
	for _, a := range b.Manifest.Artifacts {
		if err := take(a.FileName(), a.Blob); err != nil {
			return Bundle{}, err
		}
	}
	if e := b.Manifest.Experiment; e != nil {
		if err := take(ExperimentFile, *e); err != nil {
			return Bundle{}, err
		}
	}
	return b, nil
}

// Describe returns the blob of a file in a new release directory.
func Describe(fsys disk.FS, path string, limit int64) (Blob, error) {
	b, err := disk.ReadFile(fsys, path, limit)
	if err != nil {
		return Blob{}, err
	}
	return Blob{digestOf(b), int64(len(b))}, nil
}

// Publish writes a release to the folder of releases, durably. The release counts only with
// its order; see Order. Existing files are not written again.
func (b Bundle) Publish(fsys disk.FS, to string) error {
	if err := disk.MkdirAll(fsys, filepath.Join(to, "blobs"), 0o755); err != nil {
		return err
	}
	if err := disk.MkdirAll(fsys, filepath.Join(to, "signed"), 0o755); err != nil {
		return err
	}
	for digest, content := range b.blobs {
		path := BlobPath(to, digest)
		have, err := disk.ReadFile(fsys, path, int64(len(content)))
		if err != nil || digestOf(have) != digest {
			if err := disk.ReplaceBytes(fsys, path, 0o644, content); err != nil {
				return fmt.Errorf("publish binary: %w", err)
			}
		}
		if err := publishPacked(fsys, PackedPath(to, digest), content); err != nil {
			return fmt.Errorf("publish compressed binary: %w", err)
		}
	}
	manifest, signature := signedPaths(to, b.Manifest.Seq)
	if err := disk.ReplaceBytes(fsys, signature, 0o644, b.signature); err != nil {
		return fmt.Errorf("publish signature: %w", err)
	}
	if err := disk.ReplaceBytes(fsys, manifest, 0o644, b.manifest); err != nil {
		return fmt.Errorf("publish manifest: %w", err)
	}
	return nil
}

// Same reports whether this release is published completely: byte for byte, with its order
// and all files. An incomplete one is published again. Another release with the same seq is
// an error, because hosts may have seen it.
func (b Bundle) Same(fsys disk.FS, to string) (bool, error) {
	path, signature := signedPaths(to, b.Manifest.Seq)
	have, err := disk.ReadFile(fsys, path, MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if string(have) != string(b.manifest) {
		return false, fmt.Errorf("another release was published with seq %d", b.Manifest.Seq)
	}
	if have, err := disk.ReadFile(fsys, signature, MaxManifest); err != nil || string(have) != string(b.signature) {
		return false, nil
	}
	for digest, content := range b.blobs {
		if have, err := disk.ReadFile(fsys, BlobPath(to, digest), int64(len(content))); err != nil || digestOf(have) != digest {
			return false, nil
		}
	}
	orders, err := Orders(fsys, to)
	return slices.ContainsFunc(orders, func(o Order) bool { return o.Verb == OrderPublish && o.Seq == b.Manifest.Seq }), err
}

func signedPaths(dir string, seq uint64) (manifest, signature string) {
	manifest = filepath.Join(dir, "signed", fmt.Sprintf("%d.json", seq))
	return manifest, manifest + ".minisig"
}

func digestOf(b []byte) ident.Digest {
	sum := sha256.Sum256(b)
	return ident.Digest(hex.EncodeToString(sum[:]))
}
