package install

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"cis490/internal/disk"
)

// owner is a user and a group by name.
type owner struct{ user, group string }

var (
	root = owner{"root", "root"}
	ours = owner{nameOfUs, nameOfUs}
)

// String returns "user:group".
func (o owner) String() string { return o.user + ":" + o.group }

func (o owner) ids() (uid, gid int, err error) {
	u, err := user.Lookup(o.user)
	if err != nil {
		return 0, 0, err
	}
	g, err := user.LookupGroup(o.group)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(g.Gid)
	return uid, gid, err
}

// differs returns how owner or mode differ from the wanted ones, or "".
func differs(fi fs.FileInfo, p *Plan, o owner, mode fs.FileMode) string {
	const bits = fs.ModePerm | fs.ModeSetgid | fs.ModeSetuid | fs.ModeSticky
	if have := fi.Mode() & bits; have != mode {
		return fmt.Sprintf(" has mode %s: set %s", octal(have), octal(mode))
	}
	if p.image() {
		return ""
	}
	uid, gid, err := o.ids()
	st, ok := fi.Sys().(*syscall.Stat_t)
	// A user that does not exist yet owns nothing.
	if err != nil || !ok || int(st.Uid) != uid || int(st.Gid) != gid {
		return fmt.Sprintf(" is not owned by %s: set the owner", o)
	}
	return ""
}

func own(p *Plan, f *os.File, o owner) error {
	if p.image() {
		return nil
	}
	uid, gid, err := o.ids()
	if err != nil {
		return err
	}
	return f.Chown(uid, gid)
}

// set sets the owner and mode of a file or folder. It follows no symlinks.
func set(p *Plan, path string, o owner, mode fs.FileMode) error {
	if !p.image() {
		uid, gid, err := o.ids()
		if err != nil {
			return err
		}
		if err := disk.Chown(p.FS, p.at(path), uid, gid); err != nil {
			return err
		}
	}
	return disk.Chmod(p.FS, p.at(path), mode)
}

// corrected is the change that sets the owner and mode of a file or folder that has others.
func corrected(p *Plan, path, what string, o owner, mode fs.FileMode) *Change {
	return &Change{What: path + what, Done: "corrected", Object: path, apply: func(context.Context) error { return set(p, path, o, mode) }}
}

// readable is the change that makes a file readable for everybody.
func readable(p *Plan, path string, fi fs.FileInfo) Change {
	mode := fi.Mode().Perm() | 0o444
	what := fmt.Sprintf("%s is not readable for the services: set %s", path, octal(mode))
	return Change{What: what, Done: "corrected", Object: path, apply: func(context.Context) error {
		return disk.Chmod(p.FS, p.at(path), mode)
	}}
}

func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		n |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		n |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return fmt.Sprintf("%04o", n)
}
