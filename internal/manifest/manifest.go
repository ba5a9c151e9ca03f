package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Product is the only accepted product of a manifest.
const Product = "cis490"

// Limits in bytes.
const (
	MaxBinary     = 64 << 20
	MaxExperiment = 1 << 20
	MaxManifest   = 24 << 10 // fits into one answer with its signature
	maxSignature  = 4 << 10
)

// The files of a release directory, beside the binaries.
const (
	ManifestFile   = "manifest.json"
	SignatureFile  = "manifest.json.minisig"
	ExperimentFile = "experiment.toml"
	PublicKeyFile  = "release.pub" // the signing key, in minisign's format
)

// Manifest describes a release. Seq orders releases, and hosts follow it: a downgrade is a
// manifest with a higher Seq that names older binaries.
type Manifest struct {
	V          int          `json:"v"`
	Product    string       `json:"product"`
	Seq        uint64       `json:"seq"`
	Version    string       `json:"version"`
	Commit     ident.Commit `json:"commit"`
	Artifacts  []Binary     `json:"artifacts"`
	Experiment *Blob        `json:"experiment,omitempty"` // the experiment for orchestrate
	// NextKey is the minisign public key that may replace the one that signed this
	// manifest.
	NextKey string `json:"next_key,omitempty"`
}

// Blob identifies content by its digest.
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

// Lengths are compared apart: a bound in an expression costs each start of the program a millisecond.
var (
	versionRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)
	platformRE = regexp.MustCompile(`^[a-z0-9]+$`)
)

// ValidVersion reports whether a version may name a release, and so a folder and a file.
func ValidVersion(v string) bool {
	return len(v) <= 100 && versionRE.MatchString(v) && !bytes.HasSuffix([]byte(v), []byte(disk.Partial))
}

func validPlatform(s string) bool { return len(s) <= 16 && platformRE.MatchString(s) }

// For returns the binary for a platform.
func (m Manifest) For(goos, arch string) (Binary, bool) {
	for _, b := range m.Artifacts {
		if b.OS == goos && b.Arch == arch {
			return b, true
		}
	}
	return Binary{}, false
}

// Blobs returns all blobs of the release.
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

// Encode returns the signed bytes. It is deterministic.
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

// ErrManifest means that a manifest is invalid or of another product.
var ErrManifest = errors.New("manifest rejected")

// parse parses a manifest. Only Keyring.Open calls it for untrusted bytes, after it
// verified the signature. Unknown keys are ignored.
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
		return bad("product is %q, not %q", m.Product, Product)
	case m.V != 1:
		return bad("version %d of the format is unknown", m.V)
	case m.Seq == 0:
		return bad("seq is missing")
	case !ValidVersion(m.Version):
		return bad("version %q is not a valid file name", m.Version)
	case m.Commit == "":
		return bad("commit is missing")
	case len(m.Artifacts) == 0:
		return bad("no binaries")
	}
	seen := map[string]bool{}
	for _, a := range m.Artifacts {
		switch {
		case !validPlatform(a.OS) || !validPlatform(a.Arch):
			return bad("platform %q/%q is invalid", a.OS, a.Arch)
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
