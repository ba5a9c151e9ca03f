package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

var versionRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)

// validVersion reports whether a version can name a folder.
func validVersion(v string) bool {
	return len(v) <= 128 && versionRE.MatchString(v) && !strings.HasSuffix(v, disk.Partial)
}

// versionDir is the folder of this binary's version. An installed binary stays in its
// folder, whatever its name, because two builds may have the same version.
func (p *Plan) versionDir() string {
	name := p.Build.Version
	if dir, ok := p.installedIn(); ok {
		name = dir
	}
	return filepath.Join(optDir, "versions", name)
}

// binary copies this binary into its version's folder.
func (p *Plan) binary() step {
	dir := p.versionDir()
	target := filepath.Join(dir, nameOfUs)
	return step{"binary", func(context.Context) ([]Change, error) {
		var changes []Change
		for _, d := range []string{p.behind(optDir), filepath.Dir(dir), dir} {
			if _, err := p.FS.Lstat(p.at(d)); errors.Is(err, fs.ErrNotExist) {
				break // copyBinary makes it
			}
			c, err := folder{d, root, 0o755}.check(p)
			if err != nil {
				return nil, err
			}
			if c != nil {
				changes = append(changes, *c)
			}
		}
		what, err := p.compareBinary(target)
		if what == "" || err != nil {
			return changes, err
		}
		p.newBinary = true
		return append(changes, Change{What: target + what, Done: "installed", Object: target, apply: func(context.Context) error {
			return p.copyBinary(target, root, 0o755)
		}}), nil
	}}
}

// compareBinary returns how the file at target differs from this binary, or "".
func (p *Plan) compareBinary(target string) (string, error) {
	fi, err := p.FS.Lstat(p.at(target))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return " is missing: copy this binary there", nil
	case err != nil:
		return "", err
	case fi.IsDir():
		return "", inTheWay(target, fi, "a file")
	case !fi.Mode().IsRegular():
		return " is not a regular file: copy this binary there", nil
	}
	have, err := digestOf(p.FS, p.at(target))
	if err != nil {
		return "", err
	}
	want, err := digestOf(p.FS, p.Binary)
	if err != nil {
		return "", fmt.Errorf("read this binary: %w", err)
	}
	if have != want {
		return " is another build: copy this binary there", nil
	}
	return differs(fi, p, root, 0o755), nil
}

func (p *Plan) copyBinary(target string, o owner, mode fs.FileMode) error {
	// Through memory, because the target may be the source, with a wrong owner or mode.
	content, err := disk.ReadFile(p.FS, p.Binary, manifest.MaxBinary)
	if err != nil {
		return fmt.Errorf("read this binary: %w", err)
	}
	f := file{path: target, content: content, owner: o, mode: mode}
	if err := f.write(p); err != nil {
		return fault.Fix(err, "df -h "+filepath.Dir(target)+"   # check the free space")
	}
	return nil
}

// links makes this version current. It also becomes good if a person installs it. An
// installed binary that restores its own machine, as in an update's trial, changes good
// only if good has no binary.
func (p *Plan) links() step {
	target := filepath.Join("versions", filepath.Base(p.versionDir()))
	things := []resource{link{path: optDir + "/current", target: target, changed: func() { p.newBinary = true }}}
	if good := optDir + "/good"; !p.installed() || !p.runnable(good) {
		things = append(things, link{path: good, target: target})
	}
	return p.ensure("links", append(things, link{path: command, target: optDir + "/current/" + nameOfUs})...)
}

// installed reports whether this binary runs from a version's folder.
func (p *Plan) installed() bool {
	_, ok := p.installedIn()
	return ok
}

// installedIn returns the name of the version's folder that contains this binary.
func (p *Plan) installedIn() (folder string, ok bool) {
	real, err := disk.Real(p.FS, p.Binary)
	if err != nil {
		return "", false
	}
	dir, name := filepath.Split(real)
	folder = filepath.Base(dir)
	same := filepath.Join(p.at(optDir), "versions", folder, nameOfUs)
	if root, err := disk.Real(p.FS, p.at(optDir)); err == nil {
		same = filepath.Join(root, "versions", folder, nameOfUs)
	}
	return folder, name == nameOfUs && real == same && validVersion(folder)
}

// runnable reports whether a symlink leads to a version's folder with a binary.
func (p *Plan) runnable(link string) bool {
	fi, err := disk.Stat(p.FS, filepath.Join(p.at(link), nameOfUs))
	return err == nil && fi.Mode().IsRegular() && fi.Size() > 0
}

// holds reports whether a regular file has the given digest and size. It reads at most size
// bytes, because another user may own the folder.
func holds(fsys disk.FS, path string, digest ident.Digest, size int64) (bool, error) {
	fi, err := fsys.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != size {
		return false, err
	}
	content, err := disk.ReadFile(fsys, path, size)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(content)
	return ident.Digest(hex.EncodeToString(sum[:])) == digest, nil
}

// digestOf returns the digest of a file.
func digestOf(fsys disk.FS, path string) (ident.Digest, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return ident.Digest(hex.EncodeToString(h.Sum(nil))), nil
}

// startsWith reports whether a file begins with a mark.
func startsWith(fsys disk.FS, path string, mark []byte) (bool, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	head := make([]byte, len(mark))
	_, err = io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, f.Close()
	}
	return bytes.Equal(head, mark), errors.Join(err, f.Close())
}
