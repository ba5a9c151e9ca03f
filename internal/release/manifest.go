package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Product is the only product whose manifests are taken.
const Product = "cis490"

// Limits in bytes. What is larger is no release of ours.
const (
	MaxBinary     = 64 << 20
	MaxExperiment = 1 << 20
	MaxManifest   = 24 << 10 // with its signature it fits into one answer
	maxSignature  = 4 << 10
)

// The names of a release directory's files, beside the binaries.
const (
	ManifestFile   = "manifest.json"
	SignatureFile  = "manifest.json.minisig"
	ExperimentFile = "experiment.toml"
	PublicKeyFile  = "release.pub" // of the key that signed, in minisign's form
)

// Manifest says what a release is. Seq orders releases and is what a host goes
// by: a downgrade is a manifest with a higher Seq that names older binaries.
type Manifest struct {
	V          int          `json:"v"`
	Product    string       `json:"product"`
	Seq        uint64       `json:"seq"`
	Version    string       `json:"version"`
	Commit     ident.Commit `json:"commit"`
	Artifacts  []Binary     `json:"artifacts"`
	Experiment *Blob        `json:"experiment,omitempty"` // what orchestrate records with it
	// NextKey is the minisign public key that may sign in the place of the one
	// that signed this.
	NextKey string `json:"next_key,omitempty"`
}

// Blob is content by its digest.
type Blob struct {
	Digest ident.Digest `json:"sha256"`
	Size   int64        `json:"size"` // bytes
}

// Binary is the program for one platform.
type Binary struct {
	OS   string `json:"os"`   // as GOOS
	Arch string `json:"arch"` // as GOARCH; "arm" is ARMv7
	Blob
}

// FileName returns the name of the binary in a release directory.
func (b Binary) FileName() string { return "cis490-" + b.OS + "-" + b.Arch }

var (
	versionRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,99}$`)
	platformRE = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

// ValidVersion tells whether a version may name a release, and with it a folder
// and a file.
func ValidVersion(v string) bool {
	return versionRE.MatchString(v) && !bytes.HasSuffix([]byte(v), []byte(disk.Partial))
}

// For returns the binary for a platform.
func (m Manifest) For(goos, arch string) (Binary, bool) {
	for _, b := range m.Artifacts {
		if b.OS == goos && b.Arch == arch {
			return b, true
		}
	}
	return Binary{}, false
}

// Blobs returns the digests of everything the release consists of.
func (m Manifest) Blobs() []Blob {
	var all []Blob
	for _, a := range m.Artifacts {
		all = append(all, a.Blob)
	}
	if m.Experiment != nil {
		all = append(all, *m.Experiment)
	}
	return all
}

// Encode returns the bytes that are signed: the same ones for the same release.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	if len(b) >= MaxManifest {
		return nil, fmt.Errorf("encode manifest: %d bytes are over the limit of %d", len(b)+1, MaxManifest)
	}
	return append(b, '\n'), nil
}

// ErrManifest tells that a manifest is not one of ours, or not sound.
var ErrManifest = errors.New("manifest refused")

// parse reads a manifest. It is not exported: only a signature makes it worth
// reading, see Keyring.Open. A key that a later version adds is passed over.
func parse(b []byte) (Manifest, error) {
	if len(b) > MaxManifest {
		return Manifest{}, fmt.Errorf("%w: %d bytes are over the limit of %d", ErrManifest, len(b), MaxManifest)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, m.validate()
}

func (m Manifest) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrManifest}, args...)...)
	}
	switch {
	case m.Product != Product:
		return bad("it is of product %q, not %q", m.Product, Product)
	case m.V != 1:
		return bad("form %d is not known here", m.V)
	case m.Seq == 0:
		return bad("seq is missing")
	case !ValidVersion(m.Version):
		return bad("version %q is not fit for a file's name", m.Version)
	case m.Commit == "":
		return bad("commit is missing")
	case len(m.Artifacts) == 0:
		return bad("it names no binary")
	}
	seen := map[string]bool{}
	for _, a := range m.Artifacts {
		switch {
		case !platformRE.MatchString(a.OS) || !platformRE.MatchString(a.Arch):
			return bad("platform %q/%q is none", a.OS, a.Arch)
		case seen[a.FileName()]:
			return bad("two binaries for %s/%s", a.OS, a.Arch)
		case a.Digest == "":
			return bad("the binary for %s/%s has no sha256", a.OS, a.Arch)
		case a.Size <= 0 || a.Size > MaxBinary:
			return bad("the binary for %s/%s has %d bytes, which is not in 1…%d", a.OS, a.Arch, a.Size, MaxBinary)
		}
		seen[a.FileName()] = true
	}
	if e := m.Experiment; e != nil && (e.Digest == "" || e.Size <= 0 || e.Size > MaxExperiment) {
		return bad("its experiment has %d bytes, which is not in 1…%d, or no sha256", e.Size, MaxExperiment)
	}
	if m.NextKey != "" {
		if _, err := ParseKey(m.NextKey); err != nil {
			return bad("next key: %v", err)
		}
	}
	return nil
}
