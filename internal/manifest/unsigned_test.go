package manifest_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

func TestUnsigned_KeepsOnePerPlatform(t *testing.T) {
	dir := t.TempDir()
	if got, err := manifest.ReadUnsigned(disk.OS{}, dir); err != nil || got != nil {
		t.Fatalf("without a list: %v, %v", got, err)
	}
	arm := manifest.Artifact{OS: "linux", Arch: "arm64", Version: "v1", Digest: "a", Size: 1}
	old := manifest.Artifact{OS: "linux", Arch: "amd64", Version: "v1", Digest: "b", Size: 2}
	amd := manifest.Artifact{OS: "linux", Arch: "amd64", Version: "v2", Digest: "c", Size: 3}
	list := manifest.With(manifest.With(manifest.With(nil, arm), old), amd)
	content, err := manifest.EncodeUnsigned(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest.UnsignedPath(dir), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.ReadUnsigned(disk.OS{}, dir); err == nil {
		t.Error("a cut list was read")
	}
	// Digests are validated when read: these two are invalid.
	if err := os.WriteFile(manifest.UnsignedPath(dir), content, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.ReadUnsigned(disk.OS{}, dir); err == nil {
		t.Error("a digest of one letter was read")
	}
	const full = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	arm.Digest, amd.Digest = full, full
	arm.Commit = ident.Commit(full[:40]) // amd64 is a build without one
	content, err = manifest.EncodeUnsigned([]manifest.Artifact{arm, amd})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest.UnsignedPath(dir), content, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := manifest.ReadUnsigned(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]manifest.Artifact{amd, arm}, got); diff != "" {
		t.Error(diff)
	}
}
