// Package release is the form of what a receiver offers to hosts, and who is
// believed about it (spec §9).
//
// A release is a manifest that names binaries by their digest, and a minisign
// signature of exactly its bytes. The signing key lives with the maintainer and
// never on the receiver: a receiver that lies can withhold a release, but not
// make one. Hosts trust a current key and a next one; Keyring has the rules.
// What is published lies in the folder of releases: the binaries below blobs/,
// the signed manifests below signed/, what people ordered about them in
// orders.jsonl, and how far each came in rollout.json. A publication is complete
// when its order is written, which is the last thing; a crash before leaves files
// that mean nothing.
//
// An unsigned list holds what was installed by hand on the receiver itself. It
// is good for the paste line of a join token, which carries the digest; no host
// ever updates from it. Readers never trust a name or a size from a list further
// than the digest of the bytes, and refuse a manifest with anything in it that
// they do not understand fully: a path, another product, a binary named twice.
package release

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

// maxList bounds a list in bytes.
const maxList = 1 << 20

type unsigned struct {
	V         int        `json:"v"`
	Artifacts []Artifact `json:"artifacts"`
}

// UnsignedPath names the list of unsigned binaries in a folder, which is root's own:
// a new machine runs what a join token's line names.
func UnsignedPath(dir string) string { return filepath.Join(dir, "unsigned.json") }

// BlobPath names the file of a binary in the folder of releases.
func BlobPath(dir string, digest ident.Digest) string {
	return filepath.Join(dir, "blobs", string(digest))
}

// ReadUnsigned returns the unsigned binaries; none where there is no list yet.
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

// EncodeUnsigned returns the content of the list, in an order that does not
// depend on the order given.
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

// With returns the list with a in the place of the binary for its platform.
func With(artifacts []Artifact, a Artifact) []Artifact {
	others := slices.DeleteFunc(slices.Clone(artifacts), func(b Artifact) bool { return b.platform() == a.platform() })
	return append(others, a)
}

func (a Artifact) platform() string { return a.OS + "/" + a.Arch }
