package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"github.com/rogpeppe/go-internal/diff"
)

// maxText bounds files that are compared as a whole, in bytes.
const maxText = 1 << 20

// folder is a directory with an owner and a mode; its content is not changed.
type folder struct {
	path  string
	owner owner
	mode  fs.FileMode
}

func (f folder) check(p *Plan) (*Change, error) {
	path := p.at(f.path)
	fi, err := p.FS.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		what := fmt.Sprintf("%s is missing: make it, %s %s", f.path, octal(f.mode), f.owner)
		return &Change{What: what, Done: "created", Object: f.path, apply: func(context.Context) error {
			if err := disk.MkdirAll(p.FS, filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := p.FS.Mkdir(path, 0o700); err != nil {
				return err
			}
			return errors.Join(set(p, f.path, f.owner, f.mode), p.FS.SyncDir(filepath.Dir(path)))
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, inTheWay(f.path, fi, "a folder")
	}
	what := differs(fi, p, f.owner, f.mode)
	if what == "" {
		return nil, nil
	}
	return corrected(p, f.path, what, f.owner, f.mode), nil
}

// file is a file with a given content.
type file struct {
	path    string
	content []byte
	owner   owner
	mode    fs.FileMode
	secret  bool // never print the content
}

func (f file) check(p *Plan) (*Change, error) {
	path := p.at(f.path)
	fi, err := p.FS.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var old []byte
	what, done := f.path+" is missing: write it", "wrote"
	switch {
	case err != nil:
	case fi.IsDir():
		return nil, inTheWay(f.path, fi, "a file")
	case !fi.Mode().IsRegular():
		what, done = f.path+" is not a regular file: replace it", "replaced"
	default:
		old, err = disk.ReadFile(p.FS, path, maxText)
		if err != nil && fi.Size() <= maxText {
			return nil, err
		}
		what, done = f.path+" differs: write it again", "replaced"
		if err == nil && bytes.Equal(old, f.content) {
			what = differs(fi, p, f.owner, f.mode)
			if what == "" {
				return nil, nil
			}
			what, done = f.path+what, "corrected"
		}
	}
	c := &Change{What: what, Done: done, Object: f.path, apply: func(context.Context) error { return f.write(p) }}
	if !f.secret {
		c.Diff = diff.Diff(f.path, old, f.path+" (new)", f.content)
	}
	return c, nil
}

func (f file) write(p *Plan) error {
	if err := disk.MkdirAll(p.FS, filepath.Dir(p.at(f.path)), 0o755); err != nil {
		return err
	}
	return disk.Replace(p.FS, p.at(f.path), f.mode, func(w io.Writer) error {
		if o, ok := w.(*os.File); ok {
			if err := own(p, o, f.owner); err != nil {
				return err
			}
		}
		_, err := w.Write(f.content)
		return err
	})
}

// link is a symlink. rename(2) installs it, so that the name always exists.
type link struct {
	path, target string
	changed      func() // called when the check finds another target; may be nil
}

func (l link) check(p *Plan) (*Change, error) {
	path := p.at(l.path)
	what := ""
	fi, err := p.FS.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what = "is missing"
	case err != nil:
		return nil, err
	case fi.IsDir():
		return nil, inTheWay(l.path, fi, "a symlink")
	case fi.Mode()&fs.ModeSymlink == 0:
		what = "is not a symlink"
	default:
		target, err := disk.Readlink(p.FS, path)
		if err != nil {
			return nil, err
		}
		if target == l.target {
			return nil, nil
		}
		what = "points to " + target
	}
	if l.changed != nil {
		l.changed()
	}
	what = fmt.Sprintf("%s %s: point it to %s", l.path, what, l.target)
	return &Change{What: what, Done: "linked", Object: l.path, apply: func(context.Context) error {
		if err := disk.MkdirAll(p.FS, filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return disk.Relink(p.FS, l.target, path)
	}}, nil
}

// inTheWay is the error for a name that something else already uses.
func inTheWay(path string, fi fs.FileInfo, wanted string) error {
	is := "a file"
	switch {
	case fi.IsDir():
		is = "a folder"
	case fi.Mode()&fs.ModeSymlink != 0:
		is = "a symlink"
	}
	return fault.Fix(fmt.Errorf("%s is %s where %s belongs", path, is, wanted),
		fmt.Sprintf("sudo mv %s %s.old   # check it, then install again", path, path))
}
