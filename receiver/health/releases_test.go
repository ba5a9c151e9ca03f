package health_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/release"
	"cis490/receiver/health"
)

// TestReleases: hosts could take what is published, or the check says why not.
func TestReleases(t *testing.T) {
	o := healthy(t, nil)
	to := filepath.Join(o.Config.DataDir, "releases")
	keys := filepath.Join(o.Config.Authority.Dir, "release-keys")
	judge := func(want check.Status, part string) {
		t.Helper()
		for _, k := range health.Checks(o) {
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
	judge(check.Skip, "no signed release")

	ours, _, err := release.NewKey()
	must(err)
	theirs, _, err := release.NewKey()
	must(err)
	from := t.TempDir()
	write(t, filepath.Join(from, "cis490-linux-amd64"), "binary", 0o755)
	blob, err := release.Describe(disk.OS{}, filepath.Join(from, "cis490-linux-amd64"), release.MaxBinary)
	must(err)
	manifest, signature, err := ours.Sign(release.Manifest{
		V: 1, Product: release.Product, Seq: 7, Version: "v1.2.0", Commit: o.Build.Commit,
		Artifacts: []release.Binary{{OS: "linux", Arch: "amd64", Blob: blob}},
	})
	must(err)
	write(t, filepath.Join(from, release.ManifestFile), string(manifest), 0o644)
	write(t, filepath.Join(from, release.SignatureFile), string(signature), 0o644)
	b, err := release.ReadDirectory(disk.OS{}, from, release.Keyring{ours.Public()})
	must(err)
	must(os.MkdirAll(to, 0o755))
	must(b.Publish(disk.OS{}, to))
	must(release.Give(disk.OS{}, to, time.Now, release.Order{Verb: release.OrderPublish, Seq: 7}))

	judge(check.Fail, "release-keys is not there")
	write(t, keys, theirs.Public().String()+"\n", 0o644)
	judge(check.Fail, "no trusted key signed this")
	write(t, keys, ours.Public().String()+"\n", 0o644)
	judge(check.Pass, "newest version v1.2.0")
	remove(t, filepath.Join(to, "signed", "7.json.minisig"))
	judge(check.Fail, "seq 7")
	must(b.Publish(disk.OS{}, to))
	remove(t, release.BlobPath(to, blob.Digest))
	judge(check.Fail, "is not there, or not of its size")
}
