package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"cis490/internal/check"
	"cis490/internal/disk"
)

// Want is the expected state of a file or directory. A missing one is not an error
// here: another check reports it.
type Want struct {
	Path  string
	Dir   bool
	Owner string      // user; empty: not checked
	Group string      // group; empty: not checked
	Most  fs.FileMode // allowed permission bits
	Need  fs.FileMode // required bits, including setgid (fs.ModeSetgid)
}

// nobody is the id that a sandbox shows for users it does not map.
const nobody = 65534

// problem returns what differs from w, or "". A missing name is fs.ErrNotExist.
func (w Want) problem() (string, error) {
	fi, err := disk.OS{}.Lstat(w.Path)
	if err != nil {
		return "", err
	}
	if fi.IsDir() != w.Dir || (!w.Dir && !fi.Mode().IsRegular()) {
		return fmt.Sprintf("%s is %s", w.Path, kind(fi.Mode())), nil
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", nil
	}
	var bad []string
	if owner := UserName(st.Uid); w.Owner != "" && owner != w.Owner && st.Uid != nobody {
		bad = append(bad, fmt.Sprintf("is owned by %s, not %s", owner, w.Owner))
	}
	if group := groupName(st.Gid); w.Group != "" && group != w.Group && st.Gid != nobody {
		bad = append(bad, fmt.Sprintf("is of group %s, not %s", group, w.Group))
	}
	if over := fi.Mode().Perm() &^ w.Most; over != 0 {
		bad = append(bad, fmt.Sprintf("has mode %#o, want at most %#o", fi.Mode().Perm(), w.Most))
	}
	if w.Need&^fi.Mode() != 0 {
		bad = append(bad, fmt.Sprintf("has mode %s, lacks %s", fi.Mode(), w.Need&^fi.Mode()))
	}
	if len(bad) == 0 {
		return "", nil
	}
	return w.Path + " " + strings.Join(bad, " and "), nil
}

// Kept returns a check that files match wants.
func Kept(wants []Want) func(context.Context) check.Result {
	return func(context.Context) check.Result {
		var bad []string
		seen, hidden := 0, 0
		for _, w := range wants {
			why, err := w.problem()
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case errors.Is(err, fs.ErrPermission):
				hidden++
			case err != nil:
				bad = append(bad, err.Error())
			case why != "":
				bad = append(bad, why)
			default:
				seen++
			}
		}
		switch {
		case len(bad) > 0:
			return check.Failf("%s", strings.Join(bad, "; "))
		case hidden > 0 && seen == 0:
			return check.Skipf("%d files are not visible to this user: "+WithSudo, hidden)
		case hidden > 0:
			return check.Passf("%d files are correct, %d are not visible to this user", seen, hidden)
		}
		return check.Passf("%d files are correct", seen)
	}
}

// Tighten removes excess permissions of the files in wants, and gives a ledger that root
// took back to its owner. It changes only the named regular files with a single name,
// follows no symlinks, enters no directory, and returns what it did.
func Tighten(wants []Want) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		var did []string
		var errs []error
		for _, w := range wants {
			if w.Dir {
				continue
			}
			what, err := tighten(w)
			if err != nil {
				errs = append(errs, err)
			}
			did = append(did, what...)
		}
		return strings.Join(did, "; "), errors.Join(errs...)
	}
}

func tighten(w Want) (did []string, err error) {
	why, err := w.problem()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if why == "" {
		return nil, nil
	}
	fi, err := disk.OS{}.Lstat(w.Path)
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || st.Nlink != 1 {
		return nil, fmt.Errorf("not changed: %s is not a regular file with a single name", w.Path)
	}
	if over := fi.Mode().Perm() &^ w.Most; over != 0 {
		if err := (disk.OS{}).Chmod(w.Path, fi.Mode().Perm()&w.Most); err != nil {
			return nil, err
		}
		did = append(did, fmt.Sprintf("set mode of %s to %#o", w.Path, fi.Mode().Perm()&w.Most))
	}
	if w.Owner != "" && UserName(st.Uid) != w.Owner && os.Geteuid() == 0 {
		u, err := user.Lookup(w.Owner)
		if err != nil {
			return did, err
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return did, err
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return did, err
		}
		if err := (disk.OS{}).Chown(w.Path, uid, gid); err != nil {
			return did, err
		}
		did = append(did, fmt.Sprintf("changed the owner of %s to %s", w.Path, w.Owner))
	}
	return did, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symlink"
	case m.IsRegular():
		return "a regular file"
	}
	return "not a regular file"
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return "gid " + id
}
