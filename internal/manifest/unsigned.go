// Package manifest defines what a receiver offers to hosts, and which signatures they trust.
//
// A release is a manifest that names binaries by digest, with a minisign signature of its
// bytes. The signing key stays with the maintainer, never on the receiver: a malicious
// receiver can withhold a release, but not make one. Hosts trust a current key and a next
// one; see Keyring. The folder of releases holds the binaries in blobs/, the signed
// manifests in signed/, the maintainer's orders in orders.jsonl, and the progress of each
// release in rollout.json. The order is written last and completes a publication; after a
// crash before it, the files have no effect.
//
// The unsigned list names binaries that were installed by hand on the receiver. It serves
// the install command of a join token, which carries the digest; hosts never update from
// it. Readers trust names and sizes of a list only as far as the digest matches, and reject
// a manifest with anything unexpected: a path, another product, a binary named twice.
package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Artifact is one binary.
type Artifact struct {
	OS      string       `json:"os"`   // as GOOS
	Arch    string       `json:"arch"` // as GOARCH
	Version string       `json:"version"`
	Commit  ident.Commit `json:"commit,omitempty"`
	Digest  ident.Digest `json:"sha256"`
	Size    int64        `json:"size"` // bytes
}

// maxList bounds a list, in bytes.
const maxList = 1 << 20

type unsigned struct {
	V         int        `json:"v"`
	Artifacts []Artifact `json:"artifacts"`
}

// UnsignedPath returns the list of unsigned binaries in a folder. Root must own the folder,
// because new machines run what a join token's command names.
func UnsignedPath(dir string) string { return filepath.Join(dir, "unsigned.json") }

// BlobPath returns the file of a binary in the folder of releases.
func BlobPath(dir string, digest ident.Digest) string {
	return filepath.Join(dir, "blobs", string(digest))
}

// PackedPath returns the file with the zstd-compressed content of a binary.
func PackedPath(dir string, digest ident.Digest) string { return BlobPath(dir, digest) + ".zst" }

// ReadUnsigned returns the unsigned binaries, or none if there is no list.
func ReadUnsigned(fsys disk.FS, dir string) ([]Artifact, error) {
	b, err := disk.ReadFile(fsys, UnsignedPath(dir), maxList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list unsigned
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", UnsignedPath(dir), err)
	}
	return list.Artifacts, nil
}

// EncodeUnsigned returns the content of the list, sorted.
func EncodeUnsigned(artifacts []Artifact) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(artifacts), func(a, b Artifact) int {
		return strings.Compare(a.platform(), b.platform())
	})
	b, err := json.MarshalIndent(unsigned{V: 1, Artifacts: sorted}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode list of binaries: %w", err)
	}
	return append(b, '\n'), nil
}

// With returns the list with a in place of the binary for its platform.
func With(artifacts []Artifact, a Artifact) []Artifact {
	others := slices.DeleteFunc(slices.Clone(artifacts), func(b Artifact) bool { return b.platform() == a.platform() })
	return append(others, a)
}

func (a Artifact) platform() string { return a.OS + "/" + a.Arch }
