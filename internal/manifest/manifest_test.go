package manifest_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

const commit = ident.Commit("0123456789abcdef0123456789abcdef01234567")

func newKey(t *testing.T) manifest.SecretKey {
	t.Helper()
	k, _, err := manifest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// directory makes a release directory with one binary, signed by k.
func directory(t *testing.T, k manifest.SecretKey, change func(*manifest.Manifest)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "cis490-linux-amd64"), "binary")
	b, err := manifest.Describe(disk.OS{}, filepath.Join(dir, "cis490-linux-amd64"), manifest.MaxBinary)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest.Manifest{
		V: 1, Product: manifest.Product, Seq: 7, Version: "v1.2.0", Commit: commit,
		Artifacts: []manifest.Binary{{OS: "linux", Arch: "amd64", Blob: b}},
	}
	if change != nil {
		change(&m)
	}
	encoded, signature, err := k.Sign(m)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, manifest.ManifestFile), string(encoded))
	write(t, filepath.Join(dir, manifest.SignatureFile), string(signature))
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSign_MinisignVerifies: the minisign tool accepts our signatures, and its secret keys
// sign for us.
func TestSign_MinisignVerifies(t *testing.T) {
	tool, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("minisign is not installed here")
	}
	k := newKey(t)
	dir := directory(t, k, nil)
	verify := func(key string) (string, error) {
		out, err := exec.Command(tool, "-V", "-P", key, "-m", filepath.Join(dir, manifest.ManifestFile)).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(k.Public().String()); err != nil || !strings.Contains(out, "cis490 v1.2.0 seq 7") {
		t.Errorf("minisign -V: %v\n%s", err, out)
	}
	if out, err := verify(newKey(t).Public().String()); err == nil {
		t.Errorf("minisign -V with another key passes:\n%s", out)
	}
	public, err := k.Public().File()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "x.pub"), string(public))
	if out, err := exec.Command(tool, "-V", "-p", filepath.Join(dir, "x.pub"), "-m",
		filepath.Join(dir, manifest.ManifestFile)).CombinedOutput(); err != nil {
		t.Errorf("minisign -V -p: %v\n%s", err, out)
	}

	// The other way round: signed by the tool, verified by us.
	secret := filepath.Join(dir, "tool.key")
	for _, args := range [][]string{
		{"-G", "-W", "-p", filepath.Join(dir, "tool.pub"), "-s", secret},
		{"-S", "-W", "-s", secret, "-m", filepath.Join(dir, manifest.ManifestFile)},
	} {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Skipf("this minisign does not do without a password: %v\n%s", err, out)
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "tool.pub"))
	ring, err := manifest.ParseKeyring(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.ReadDirectory(disk.OS{}, dir, ring); err != nil {
		t.Errorf("signed by minisign: %v", err)
	}
	b, _ = os.ReadFile(secret)
	if got, err := manifest.ParseSecretKey(b, ""); err != nil || got.Public().String() != ring[0].String() {
		t.Errorf("a secret key of minisign's: %v", err)
	}
}

// TestOpen_Refuses has the rows of the attack table about manifests.
func TestOpen_Refuses(t *testing.T) {
	k, other := newKey(t), newKey(t)
	good := directory(t, k, nil)
	encoded, _ := os.ReadFile(filepath.Join(good, manifest.ManifestFile))
	signature, _ := os.ReadFile(filepath.Join(good, manifest.SignatureFile))
	ring := manifest.Keyring{k.Public()}
	if _, signer, err := ring.Open(encoded, signature); err != nil || signer.String() != k.Public().String() {
		t.Fatal(err)
	}
	tampered := []byte(strings.Replace(string(encoded), "v1.2.0", "v6.6.6", 1))
	for name, c := range map[string]struct {
		ring               manifest.Keyring
		encoded, signature []byte
		want               error
	}{
		"wrong key":           {manifest.Keyring{other.Public()}, encoded, signature, manifest.ErrSignature},
		"no key":              {nil, encoded, signature, manifest.ErrSignature},
		"tampered manifest":   {ring, tampered, signature, manifest.ErrSignature},
		"one byte more":       {ring, append([]byte(" "), encoded...), signature, manifest.ErrSignature},
		"no signature":        {ring, encoded, nil, manifest.ErrSignature},
		"garbage signature":   {ring, encoded, []byte("untrusted comment: x\nRWQ\n"), manifest.ErrSignature},
		"tampered comment":    {ring, encoded, []byte(strings.Replace(string(signature), "seq 7", "seq 8", 1)), manifest.ErrSignature},
		"oversize manifest":   {ring, make([]byte, manifest.MaxManifest+1), signature, manifest.ErrManifest},
		"oversize signature":  {ring, encoded, make([]byte, 1<<20), manifest.ErrManifest},
		"nothing but a brace": {ring, []byte("{"), signature, manifest.ErrSignature},
	} {
		if _, _, err := c.ring.Open(c.encoded, c.signature); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestEncode_RefusesWhatHostsWould(t *testing.T) {
	k := newKey(t)
	for name, change := range map[string]func(*manifest.Manifest){
		"other product":      func(m *manifest.Manifest) { m.Product = "other" },
		"no seq":             func(m *manifest.Manifest) { m.Seq = 0 },
		"path as version":    func(m *manifest.Manifest) { m.Version = "../../etc" },
		"partial as version": func(m *manifest.Manifest) { m.Version = "v1.partial" },
		"no commit":          func(m *manifest.Manifest) { m.Commit = "" },
		"no binary":          func(m *manifest.Manifest) { m.Artifacts = nil },
		"binary twice":       func(m *manifest.Manifest) { m.Artifacts = append(m.Artifacts, m.Artifacts[0]) },
		"path as platform":   func(m *manifest.Manifest) { m.Artifacts[0].Arch = "../x" },
		"over 64 MiB":        func(m *manifest.Manifest) { m.Artifacts[0].Size = manifest.MaxBinary + 1 },
		"no digest":          func(m *manifest.Manifest) { m.Artifacts[0].Digest = "" },
		"unknown form":       func(m *manifest.Manifest) { m.V = 2 },
		"next key is none":   func(m *manifest.Manifest) { m.NextKey = "RWQx" },
	} {
		m := manifest.Manifest{
			V: 1, Product: manifest.Product, Seq: 1, Version: "v1", Commit: commit,
			Artifacts: []manifest.Binary{{OS: "linux", Arch: "amd64", Blob: manifest.Blob{Digest: ident.Digest(strings.Repeat("0", 64)), Size: 1}}},
		}
		if _, _, err := k.Sign(m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if _, _, err := k.Sign(m); !errors.Is(err, manifest.ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAfter_TheNextKeyRetiresTheCurrent: rotation in three releases.
func TestAfter_TheNextKeyRetiresTheCurrent(t *testing.T) {
	a, b, c := newKey(t), newKey(t), newKey(t)
	open := func(ring manifest.Keyring, k manifest.SecretKey, next manifest.SecretKey) (manifest.Keyring, error) {
		dir := directory(t, k, func(m *manifest.Manifest) { m.NextKey = next.Public().String() })
		bundle, err := manifest.ReadDirectory(disk.OS{}, dir, ring)
		return ring.After(bundle.Manifest, bundle.Signer), err
	}
	ring, err := open(manifest.Keyring{a.Public()}, a, b)
	if err != nil || ring.String() != (manifest.Keyring{a.Public(), b.Public()}).String() {
		t.Fatalf("a names b: %v\n%s", err, ring)
	}
	ring, err = open(ring, b, c)
	if err != nil || ring.String() != (manifest.Keyring{b.Public(), c.Public()}).String() {
		t.Fatalf("b signs and names c: %v\n%s", err, ring)
	}
	if _, err := open(ring, a, b); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("the retired key still signs: %v", err)
	}
	same, err := open(ring, b, b) // the next key is its own: nothing changes
	if err != nil || same.String() != ring.String() {
		t.Errorf("%v\n%s", err, same)
	}
}

func TestReadDirectory_RefusesMixedArtifacts(t *testing.T) {
	k := newKey(t)
	ring := manifest.Keyring{k.Public()}
	dir := directory(t, k, nil)
	write(t, filepath.Join(dir, "cis490-linux-amd64"), "binarx")
	if _, err := manifest.ReadDirectory(disk.OS{}, dir, ring); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("other bytes: %v", err)
	}
	write(t, filepath.Join(dir, "cis490-linux-amd64"), "binary and more")
	if _, err := manifest.ReadDirectory(disk.OS{}, dir, ring); err == nil {
		t.Error("longer file taken")
	}
	must(t, os.Remove(filepath.Join(dir, "cis490-linux-amd64")))
	if _, err := manifest.ReadDirectory(disk.OS{}, dir, ring); err == nil {
		t.Error("missing file not missed")
	}
}

// TestPublish_Packed: a binary is also published compressed, and a damaged file is replaced.
func TestPublish_Packed(t *testing.T) {
	k, to := newKey(t), t.TempDir()
	content := strings.Repeat("a binary with a pattern. ", 8<<10)
	dir := directory(t, k, nil)
	write(t, filepath.Join(dir, "cis490-linux-amd64"), content)
	blob, err := manifest.Describe(disk.OS{}, filepath.Join(dir, "cis490-linux-amd64"), 1<<20)
	must(t, err)
	dir = directory(t, k, func(m *manifest.Manifest) { m.Artifacts[0].Blob = blob })
	write(t, filepath.Join(dir, "cis490-linux-amd64"), content)
	b, err := manifest.ReadDirectory(disk.OS{}, dir, manifest.Keyring{k.Public()})
	must(t, err)
	packed := manifest.PackedPath(to, blob.Digest)
	for _, before := range []string{"", "damaged"} {
		if before != "" {
			write(t, packed, before)
		}
		must(t, b.Publish(disk.OS{}, to))
		f, err := os.ReadFile(packed)
		must(t, err)
		var plain strings.Builder
		if err := manifest.Unpack(&plain, bytes.NewReader(f), blob.Size); err != nil || plain.String() != content || len(f) > len(content)/3 {
			t.Errorf("%d bytes, which unpack to %d, %v", len(f), plain.Len(), err)
		}
	}
}

func TestPublish_CountsWithItsOrder(t *testing.T) {
	k := newKey(t)
	to := t.TempDir()
	b, err := manifest.ReadDirectory(disk.OS{}, directory(t, k, nil), manifest.Keyring{k.Public()})
	must(t, err)
	must(t, b.Publish(disk.OS{}, to))
	if all, err := manifest.List(disk.OS{}, to); err != nil || len(all) != 0 {
		t.Fatalf("published without an order: %v %v", all, err)
	}
	if same, err := b.Same(disk.OS{}, to); same || err != nil {
		t.Errorf("a publication that was cut off before its order: published %v, %v", same, err)
	}
	must(t, manifest.Give(disk.OS{}, to, time.Now, manifest.Order{Verb: manifest.OrderPublish, Seq: 7}))
	all, err := manifest.List(disk.OS{}, to)
	if err != nil || len(all) != 1 || all[0].Manifest.Version != "v1.2.0" {
		t.Fatal(all, err)
	}
	if _, _, err := (manifest.Keyring{k.Public()}).Open([]byte(all[0].Offer.Manifest), []byte(all[0].Offer.Signature)); err != nil {
		t.Errorf("what is offered does not verify: %v", err)
	}
	if same, err := b.Same(disk.OS{}, to); !same || err != nil {
		t.Error(same, err)
	}
	other, err := manifest.ReadDirectory(disk.OS{}, directory(t, k, func(m *manifest.Manifest) { m.Version = "v1.2.1" }),
		manifest.Keyring{k.Public()})
	must(t, err)
	if same, err := other.Same(disk.OS{}, to); same || err == nil {
		t.Error("another release under the same seq is taken for the same")
	}
	signature := filepath.Join(to, "signed", "7.json.minisig")
	must(t, os.WriteFile(signature, nil, 0o644))
	if same, err := b.Same(disk.OS{}, to); same || err != nil {
		t.Errorf("its signature is damaged: published %v, %v", same, err)
	}
	must(t, os.Remove(signature))
	all, err = manifest.List(disk.OS{}, to)
	if err != nil || len(all) != 1 || all[0].Offer.Signature != "" {
		t.Fatalf("its signature is gone: %v, %v", all, err)
	}
	if _, _, err := (manifest.Keyring{k.Public()}).Open([]byte(all[0].Offer.Manifest), nil); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("a release without its signature: %v", err)
	}
	must(t, b.Publish(disk.OS{}, to))
	must(t, os.Remove(manifest.BlobPath(to, b.Manifest.Artifacts[0].Digest)))
	if same, err := b.Same(disk.OS{}, to); same || err != nil {
		t.Errorf("a binary was lost: published %v, %v", same, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzOpen: whatever is sent, anything unsigned is an error.
func FuzzOpen(f *testing.F) {
	k, _, err := manifest.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("{}"), []byte("untrusted comment: x\nRUQ\ntrusted comment: y\nz"))
	f.Fuzz(func(t *testing.T, m, s []byte) {
		if _, _, err := (manifest.Keyring{k.Public()}).Open(m, s); err == nil {
			t.Error("taken")
		}
	})
}

// TestGive_AClockThatWasSetBack: an order is later than the one before it, or a reader
// would mistake it for an executed one.
func TestGive_AClockThatWasSetBack(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 3 {
		must(t, manifest.Give(disk.OS{}, dir, func() time.Time { return now }, manifest.Order{Verb: manifest.OrderPromote, Seq: 7}))
		now = now.Add(-time.Hour)
	}
	all, err := manifest.Orders(disk.OS{}, dir)
	must(t, err)
	if len(all) != 3 || !all[1].At.After(all[0].At) || !all[2].At.After(all[1].At) {
		t.Errorf("orders of a clock that goes back: %+v", all)
	}
}
