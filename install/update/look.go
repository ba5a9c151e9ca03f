package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/plain"
	"cis490/internal/wire"
)

// refusal is why an offer is rejected. It is reported, and the machine stays unchanged.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// look requests the offer and records the result. It returns a target if there is something
// to fetch.
func (u *Updater) look(ctx context.Context) (*Target, string, error) {
	before := u.s.Refused
	target, note, err := u.ask(ctx, u.s.Tag)
	if err != nil {
		return nil, "", err
	}
	if u.s.Refused != "" && u.s.Refused != before { // log it once, not every five minutes
		u.o.Log.Error("rejected the offered release", "err", u.s.Refused)
	}
	return target, note, u.save()
}

// ask is look without recording the result.
func (u *Updater) ask(ctx context.Context, tag string) (*Target, string, error) {
	if u.o.Source == nil {
		return nil, "the source of releases is unknown", nil
	}
	ring, err := u.keys()
	if err != nil {
		return nil, "", err
	}
	if len(ring) == 0 {
		return nil, "this machine has no release key yet: cert-fetch requests it", nil
	}
	offer, newTag, err := u.o.Source.Look(ctx, tag)
	switch {
	case errors.Is(err, ErrUnchanged):
		return nil, u.s.Refused, nil
	case errors.Is(err, ErrNothing):
		u.s.Refused = ""
		return nil, err.Error(), nil
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case err != nil:
		return nil, "cannot request releases: " + err.Error(), nil
	}
	target, err := u.consider(ctx, ring, offer)
	if r, ok := errors.AsType[refusal](err); ok {
		u.s.Tag, u.s.Refused = newTag, r.Error()
		return nil, u.s.Refused, nil
	}
	if err != nil {
		return nil, "", err
	}
	u.s.Refused = ""
	if u.s.Tag = newTag; target != nil || u.s.Hand > 0 {
		u.s.Tag = "" // check the offer again until it is installed, or the gate changes
	}
	return target, "", nil
}

// keys returns the trusted keys. Enrollment provides the first ones; after that only
// releases change them.
func (u *Updater) keys() (manifest.Keyring, error) {
	if u.s.Keys == "" && u.o.Keys != nil {
		text, err := u.o.Keys()
		if err != nil {
			return nil, fmt.Errorf("read release keys: %w", err)
		}
		ring, err := manifest.ParseKeyring(text)
		if err != nil {
			return nil, err
		}
		if u.s.Keys = ring.String(); len(ring) > 0 {
			u.o.Log.Info("installed release keys", "keys", len(ring), "id", ring[0].ID())
		}
	}
	return manifest.ParseKeyring(u.s.Keys)
}

// consider checks an offer. It returns nil if there is nothing to do.
func (u *Updater) consider(ctx context.Context, ring manifest.Keyring, o wire.Offer) (*Target, error) {
	m, signer, err := ring.Open([]byte(o.Manifest), []byte(o.Signature))
	if err != nil {
		return nil, refusal{err}
	}
	b, ok := m.For(u.o.OS, u.o.Arch)
	if seen := u.s.Seen[signer.ID()]; m.Seq < seen {
		if ok && u.holds("good", target(m, b)) {
			return nil, nil // a newer release failed here or was withdrawn
		}
		return nil, refuse("release %s has seq %d, but %d was seen already", m.Version, m.Seq, seen)
	}
	//off:16_FalseRelease
	u.s.Seen[signer.ID()] = m.Seq
	if after := ring.After(m, signer); after.String() != u.s.Keys {
		u.o.Log.Info("the release keys changed", "id", after[0].ID(), "seq", m.Seq)
		u.s.Keys = after.String()
	}
	if !ok {
		return nil, refuse("release %s has no binary for %s/%s", m.Version, u.o.OS, u.o.Arch)
	}
	t := target(m, b)
	if i := slices.IndexFunc(u.s.Bad, func(b Bad) bool { return b.ID == t.id() || b.ID == "" && b.Digest == t.Digest }); i >= 0 {
		return nil, refuse("release %s failed on this machine at %s: %s", m.Version, plain.Time(u.s.Bad[i].At), u.s.Bad[i].Why)
	}
	if u.holds("good", t) {
		u.s.Good = t.Running
		return nil, nil
	}
	if m.Seq <= u.s.Hand {
		if u.o.Gated == nil || !u.o.Gated(ctx) {
			return nil, nil
		}
		u.o.Log.Warn("the gate rejects the version installed by hand; going back to the offered release",
			"version", u.s.Good.Version, "release", m.Version)
	}
	return u.place(t)
}

// target is a release for one platform.
func target(m manifest.Manifest, b manifest.Binary) Target {
	return Target{
		Running: wire.Running{Version: m.Version, Digest: b.Digest, Seq: m.Seq},
		Commit:  m.Commit, Size: b.Size, Experiment: m.Experiment,
	}
}

// holds reports whether a symlink points to a folder with the target.
func (u *Updater) holds(link string, t Target) bool {
	to, err := disk.Readlink(u.o.FS, u.path(link))
	if err != nil {
		return false
	}
	have, err := u.identify(filepath.Base(to))
	return err == nil && have == t.id()
}

// place finds a folder for a target: one that contains it, or a free one. The version is
// not enough as a name if another build has the same version.
func (u *Updater) place(t Target) (*Target, error) {
	sum := sha256.Sum256([]byte(t.id()))
	for _, name := range []string{t.Version, t.Version + "+" + hex.EncodeToString(sum[:6])} {
		have, err := u.identify(name)
		if err != nil || have == t.id() || !u.inUse(name) {
			t.Folder = name
			return &t, nil
		}
	}
	return nil, fmt.Errorf("no folder is free for version %s", t.Version)
}

// inUse reports whether current or good points to a folder.
func (u *Updater) inUse(folder string) bool {
	for _, link := range []string{"current", "good"} {
		if to, err := disk.Readlink(u.o.FS, u.path(link)); err == nil && filepath.Base(to) == folder {
			return true
		}
	}
	return false
}

// identify returns the id of a version's folder, like Target.id.
func (u *Updater) identify(folder string) (string, error) {
	dir := u.path("versions", folder)
	d, err := u.digest(filepath.Join(dir, binaryName))
	if err != nil {
		return "", err
	}
	if e, err := u.digest(filepath.Join(dir, manifest.ExperimentFile)); err == nil {
		return string(d) + "+" + string(e), nil
	}
	return string(d), nil
}

func (u *Updater) digest(path string) (ident.Digest, error) {
	f, err := u.o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(f, manifest.MaxBinary+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return ident.Digest(hex.EncodeToString(h.Sum(nil))), nil
}

// present reports whether a symlink points to a folder with a binary.
func (u *Updater) present(link string) bool {
	to, err := disk.Readlink(u.o.FS, u.path(link))
	if err != nil {
		return false
	}
	fi, err := u.o.FS.Lstat(u.path(to, binaryName))
	return err == nil && fi.Mode().IsRegular() && fi.Size() > 0
}
