package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/install/update"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/version"
	"cis490/internal/wire"
)

const commit = ident.Commit("0123456789abcdef0123456789abcdef01234567")

// harness is a machine with version v1 installed, and a source of releases. A binary is the
// text "VERSION ARCH"; current points to the one that runs.
type harness struct {
	t   testing.TB
	fs  disk.FS
	dir string
	key manifest.SecretKey
	now time.Time
	log bytes.Buffer

	source update.Source
	offer  wire.Offer
	blobs  map[ident.Digest][]byte

	// How the machine behaves.
	prepare   func(io.Reader, string, ident.Digest) error
	converge  func(binary string) error
	changes   []string // what it prints as changed
	restart   func() error
	units     func(version string) []update.Daemon
	findings  func(version string) update.Findings
	selfTest  func() error
	unitsErr  error
	boot      string
	gated     bool     // the receiver takes nothing of what good records
	converged []string // versions whose install ran
	reports   int
	tests     int
	at        func(step string) // each step that asks or changes the machine
}

func newHarness(t testing.TB, fsys disk.FS, dir string) *harness {
	t.Helper()
	key, _, err := manifest.NewKey()
	must(t, err)
	r := &harness{
		t: t, fs: fsys, dir: dir, key: key, boot: "boot-1", now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		blobs: map[ident.Digest][]byte{},
	}
	r.source, r.prepare = r, r.write
	r.units = func(string) []update.Daemon { return []update.Daemon{{Name: "ship", Active: true}} }
	r.findings = func(string) update.Findings { return update.Findings{} }
	r.place("v1", "v1 amd64")
	for _, l := range []string{"current", "good"} {
		must(t, disk.Relink(fsys, "versions/v1", r.path(l)))
	}
	return r
}

func (r *harness) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

func (r *harness) place(folder, content string) {
	r.t.Helper()
	must(r.t, disk.MkdirAll(r.fs, r.path("versions", folder), 0o755))
	must(r.t, disk.ReplaceBytes(r.fs, r.path("versions", folder, "cis490"), 0o755, []byte(content)))
}

// publish makes a release of a binary and offers it.
func (r *harness) publish(v string, seq uint64, change ...func(*manifest.Manifest)) {
	r.t.Helper()
	r.publishBy(r.key, v, seq, change...)
}

func (r *harness) publishBy(k manifest.SecretKey, v string, seq uint64, change ...func(*manifest.Manifest)) {
	r.t.Helper()
	m := manifest.Manifest{
		V: 1, Product: manifest.Product, Seq: seq, Version: v, Commit: commit,
		Artifacts: []manifest.Binary{{OS: "linux", Arch: "amd64", Blob: r.blob(v + " amd64")}},
	}
	for _, f := range change {
		f(&m)
	}
	manifest, signature, err := k.Sign(m)
	must(r.t, err)
	r.offer = wire.Offer{Manifest: string(manifest), Signature: string(signature)}
}

func (r *harness) blob(content string) manifest.Blob {
	sum := sha256.Sum256([]byte(content))
	d := ident.Digest(hex.EncodeToString(sum[:]))
	r.blobs[d] = []byte(content)
	return manifest.Blob{Digest: d, Size: int64(len(content))}
}

func (r *harness) updater() (*update.Updater, error) {
	return update.New(update.Options{
		FS: r.fs, Dir: r.dir, Source: r.source, Machine: r, Keys: func() (string, error) { return r.key.Public().String(), nil },
		Gated: func(context.Context) bool { return r.gated },
		OS:    "linux", Arch: "amd64", Config: config.DefaultUpdate(), Now: func() time.Time { return r.now },
		Pause: func(_ context.Context, d time.Duration) { r.now = r.now.Add(d) },
		Log:   slog.New(slog.NewTextHandler(&r.log, nil)),
	})
}

func (r *harness) try() (update.Result, error) {
	u, err := r.updater()
	if err != nil {
		return update.Result{}, err
	}
	return u.Run(r.t.Context())
}

// run performs one run, five minutes after the last.
func (r *harness) run() update.Result {
	r.t.Helper()
	r.now = r.now.Add(5 * time.Minute)
	res, err := r.try()
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log.String())
	}
	return res
}

// runs is the target of a symlink, and the version that the binary there reports.
func (r *harness) runs(link string) string {
	to, err := disk.Readlink(r.fs, r.path(link))
	if err != nil {
		return err.Error()
	}
	b, err := disk.ReadFile(r.fs, r.path(to, "cis490"), 1<<20)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(string(b), " amd64")
}

func (r *harness) want(what, current, good string) {
	r.t.Helper()
	if c, g := r.runs("current"), r.runs("good"); c != current || g != good {
		r.t.Errorf("%s: current runs %s, good %s; want %s, %s\n%s", what, c, g, current, good, r.log.String())
	}
}

func (r *harness) versions() string {
	entries, err := r.fs.ReadDir(r.path("versions"))
	must(r.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// The harness implements the source.

func (r *harness) Look(_ context.Context, tag string) (wire.Offer, string, error) {
	r.step("look")
	now := fmt.Sprintf("%x", sha256.Sum256([]byte(r.offer.Manifest+r.offer.Signature)))
	switch {
	case r.offer.Manifest == "":
		return wire.Offer{}, "", update.ErrNothing
	case now == tag:
		return wire.Offer{}, tag, update.ErrUnchanged
	}
	return r.offer, now, nil
}

func (r *harness) Blob(_ context.Context, d ident.Digest, from int64, _ bool) (update.Content, error) {
	r.step("fetch")
	b, ok := r.blobs[d]
	if !ok {
		return update.Content{}, errors.New("no such blob")
	}
	return update.Content{ReadCloser: io.NopCloser(bytes.NewReader(b[from:])), From: from}, nil
}

// The harness implements the machine.

func (r *harness) step(name string) {
	if r.at != nil {
		r.at(name)
	}
}

func (r *harness) Prepare(content io.Reader, target string, d ident.Digest) error {
	r.step("write")
	return r.prepare(content, target, d)
}

func (r *harness) write(content io.Reader, target string, _ ident.Digest) error {
	b, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return disk.ReplaceBytes(r.fs, target, 0o755, b)
}

func (r *harness) SelfTest(_ context.Context, binary string) (version.Info, error) {
	r.tests++
	r.step("self-test of " + filepath.Base(filepath.Dir(binary)))
	if r.selfTest != nil && r.selfTest() != nil {
		return version.Info{}, r.selfTest()
	}
	b, err := disk.ReadFile(r.fs, binary, 1<<20)
	if err != nil {
		return version.Info{}, err
	}
	v, arch, _ := strings.Cut(string(b), " ")
	if arch != "amd64" {
		return version.Info{}, errors.New("exec format error")
	}
	return version.Info{Version: v, Commit: commit, OS: "linux", Arch: arch}, nil
}

func (r *harness) Converge(context.Context, string) ([]string, error) {
	v := r.runs("current")
	r.step("install of " + v)
	r.converged = append(r.converged, v)
	if r.converge != nil {
		return r.changes, r.converge(v)
	}
	return r.changes, nil
}

func (r *harness) Restart(context.Context) error {
	r.step("restart")
	if r.restart != nil {
		return r.restart()
	}
	return nil
}

func (r *harness) Units(context.Context) ([]update.Daemon, error) {
	v := r.runs("current")
	r.step("services of " + v)
	return r.units(v), r.unitsErr
}

func (r *harness) Examine(context.Context, string) update.Findings {
	v := r.runs("current")
	r.step("doctor of " + v)
	return r.findings(v)
}

func (r *harness) Boot() string { return r.boot }

func (r *harness) Logs(context.Context, time.Time) []byte {
	r.step("logs")
	return []byte("panic: it hurts\n")
}

func (r *harness) Report(context.Context, string) {
	r.step("report")
	r.reports++
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exists reports whether anything is left in a folder of downloads.
func (r *harness) leftovers() (names []string) {
	entries, err := r.fs.ReadDir(r.path("state", "fetch"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
