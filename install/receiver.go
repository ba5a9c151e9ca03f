package install

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/manifest"
)

// receiver returns the steps of a receiver.
func (p *Plan) receiver() ([]step, error) {
	if err := p.loadReceiver(); err != nil {
		return nil, err
	}
	ca, err := p.loadCA()
	if err != nil {
		return nil, err
	}
	units, err := p.units(p.receiverData())
	if err != nil {
		return nil, err
	}
	releases := filepath.Join(p.rx.DataDir, "releases")
	users, theirs := []string{nameOfUs, authority}, []resource{
		folder{filepath.Join(configDir, "ca"), owner{authority, authority}, 0o755},
		// The receiver can read files that the authority creates here.
		folder{p.rx.Authority.Dir, owner{authority, nameOfUs}, 0o750 | fs.ModeSetgid},
	}
	if p.rx.Authority.Elsewhere { // serve keeps copies of the authority's files
		users, theirs = users[:1], []resource{folder{p.rx.Authority.Dir, ours, 0o750}}
	}
	var steps []step
	if !p.image() {
		steps = append(steps, p.users([]string{operators}, users...))
	}
	steps = append(steps,
		p.ensure("folders", append([]resource{
			folder{configDir, root, 0o755},
			folder{filepath.Join(configDir, "store"), ours, 0o755}, // not on the data disk
			// The recorder of a lab host with data below needs to pass.
			folder{p.rx.DataDir, ours, 0o751},
			// Sockets in it belong to the group.
			folder{filepath.Join(p.rx.DataDir, "ops"), owner{nameOfUs, operators}, 0o750 | fs.ModeSetgid},
			folder{releases, ours, 0o755},
			folder{filepath.Join(releases, "blobs"), ours, 0o755},
		}, theirs...)...),
		p.binary(),
		p.links(),
		p.config(config.ReceiverPath),
	)
	if p.rx.Authority.Elsewhere {
		steps = append(steps, p.sharedFiles(), p.operator(), p.publish(releases), p.mark())
		if p.Invitation != nil {
			steps = append(steps, p.joinToken())
		}
		return append(append(steps, units), p.running(config.ReceiverPath, p.serverCertificate())...), nil
	}
	steps = append(steps, p.operator(), p.ca(ca), p.publish(releases), p.publishRelease(releases), p.mark(), units)
	return append(steps, p.running(config.ReceiverPath)...), nil
}

// operator makes the token for the operator's API, if there is none.
func (p *Plan) operator() step {
	return step{"operator token", func(context.Context) ([]Change, error) {
		f := file{path: p.rx.Operator, owner: owner{"root", nameOfUs}, mode: 0o640, secret: true}
		fi, err := p.FS.Lstat(p.at(f.path))
		switch {
		case errors.Is(err, fs.ErrNotExist) || (err == nil && fi.Mode().IsRegular() && fi.Size() == 0):
			return []Change{{What: f.path + " is missing: create a new token", Done: "created", Object: f.path, apply: func(context.Context) error {
				secret := make([]byte, 32)
				if _, err := rand.Read(secret); err != nil {
					return err
				}
				f.content = []byte(base64.RawURLEncoding.EncodeToString(secret) + "\n")
				return f.write(p)
			}}}, nil
		case err != nil:
			return nil, err
		case !fi.Mode().IsRegular():
			return nil, inTheWay(f.path, fi, "a file")
		}
		what := differs(fi, p, f.owner, f.mode)
		if what == "" {
			return nil, nil
		}
		return []Change{*corrected(p, f.path, what, f.owner, f.mode)}, nil
	}}
}

// publish offers this binary for the install command of a join token. It is not a release,
// because it has no signature.
func (p *Plan) publish(dir string) step {
	return step{"download", func(context.Context) ([]Change, error) {
		digest, err := digestOf(p.FS, p.Binary)
		if err != nil {
			return nil, fmt.Errorf("read this binary: %w", err)
		}
		fi, err := disk.Stat(p.FS, p.Binary)
		if err != nil {
			return nil, fmt.Errorf("read this binary: %w", err)
		}
		mine := manifest.Artifact{
			OS: p.Build.OS, Arch: p.Build.Arch, Version: p.Build.Version,
			Commit: p.Build.Commit, Digest: digest, Size: fi.Size(),
		}
		blob := manifest.BlobPath(dir, digest)
		var changes []Change
		same, err := holds(p.FS, p.at(blob), digest, fi.Size())
		if err != nil {
			return nil, err
		}
		if !same {
			changes = append(changes, Change{
				What: blob + " is not this binary: copy it", Done: "offered", Object: "this binary to new machines",
				apply: func(context.Context) error { return p.copyBinary(blob, ours, 0o644) },
			})
		}
		listed, err := manifest.ReadUnsigned(p.FS, p.at(optDir)) // owned by root, because token create trusts it
		if err != nil || !slices.Contains(listed, mine) {
			// Replace an unreadable list.
			content, err := manifest.EncodeUnsigned(manifest.With(listed, mine))
			if err != nil {
				return nil, err
			}
			c, err := file{path: manifest.UnsignedPath(optDir), content: content, owner: root, mode: 0o644}.check(p)
			if err != nil {
				return nil, err
			}
			if c != nil {
				changes = append(changes, *c, note("hosts will not update to this binary until a signed release is published"))
			}
		}
		return changes, nil
	}}
}
