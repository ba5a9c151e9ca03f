package checks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/manifest"
	"cis490/receiver/checks"
)

// TestReleases: hosts can install the published release, or the check reports why not.
func TestReleases(t *testing.T) {
	o := healthy(t, nil)
	to := filepath.Join(o.Config.DataDir, "releases")
	keys := filepath.Join(o.Config.Authority.Dir, "release-keys")
	judge := func(want check.Status, part string) {
		t.Helper()
		for _, k := range checks.Checks(o) {
			if k.ID != "releases.signed" {
				continue
			}
			if r := k.Run(t.Context()); r.Status != want || !strings.Contains(r.Detail, part) {
				t.Errorf("%+v, want %s …%s…", r, want, part)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	judge(check.Skip, "no release")

	ours, _, err := manifest.NewKey()
	must(err)
	theirs, _, err := manifest.NewKey()
	must(err)
	from := t.TempDir()
	write(t, filepath.Join(from, "cis490-linux-amd64"), "binary", 0o755)
	blob, err := manifest.Describe(disk.OS{}, filepath.Join(from, "cis490-linux-amd64"), manifest.MaxBinary)
	must(err)
	encoded, signature, err := ours.Sign(manifest.Manifest{
		V: 1, Product: manifest.Product, Seq: 7, Version: "v1.2.0", Commit: o.Build.Commit,
		Artifacts: []manifest.Binary{{OS: "linux", Arch: "amd64", Blob: blob}},
	})
	must(err)
	write(t, filepath.Join(from, manifest.ManifestFile), string(encoded), 0o644)
	write(t, filepath.Join(from, manifest.SignatureFile), string(signature), 0o644)
	b, err := manifest.ReadDirectory(disk.OS{}, from, manifest.Keyring{ours.Public()})
	must(err)
	must(os.MkdirAll(to, 0o755))
	must(b.Publish(disk.OS{}, to))
	must(manifest.Give(disk.OS{}, to, time.Now, manifest.Order{Verb: manifest.OrderPublish, Seq: 7}))

	judge(check.Fail, "release-keys is not there")
	write(t, keys, theirs.Public().String()+"\n", 0o644)
	judge(check.Fail, "no trusted key signed this")
	write(t, keys, ours.Public().String()+"\n", 0o644)
	judge(check.Pass, "newest version v1.2.0")
	remove(t, filepath.Join(to, "signed", "7.json.minisig"))
	judge(check.Fail, "seq 7")
	must(b.Publish(disk.OS{}, to))
	remove(t, manifest.BlobPath(to, blob.Digest))
	judge(check.Fail, "is not there, or not of its size")
}
