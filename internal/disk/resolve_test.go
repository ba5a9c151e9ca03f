package disk_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/disk/rival"
)

// must stops a test at the first error of its preparation.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// shared returns a folder that everybody may change, so that its names may be anybody's,
// beside a folder that only this user may change.
func shared(t *testing.T) (folder, private string) {
	t.Helper()
	dir := t.TempDir()
	folder, private = filepath.Join(dir, "shared"), filepath.Join(dir, "private")
	must(t, os.Mkdir(folder, 0o755), os.Chmod(folder, 0o777), os.Mkdir(private, 0o700),
		os.WriteFile(filepath.Join(private, "secret"), []byte("secret"), 0o600))
	return folder, private
}

// operations are all that change or read a name below a folder.
func operations(dir string) map[string]func() error {
	o, at := disk.OS{}, func(name string) string { return filepath.Join(dir, name) }
	return map[string]func() error{
		"read":      func() error { _, err := disk.ReadFile(o, at("secret"), 100); return err },
		"write":     func() error { return disk.ReplaceBytes(o, at("new"), 0o600, []byte("x")) },
		"create":    func() error { _, err := o.OpenFile(at("new"), os.O_WRONLY|os.O_CREATE, 0o600); return err },
		"append":    func() error { _, err := o.OpenFile(at("secret"), os.O_WRONLY|os.O_APPEND, 0); return err },
		"truncate":  func() error { _, err := o.OpenFile(at("secret"), os.O_WRONLY|os.O_TRUNC, 0); return err },
		"remove":    func() error { return o.Remove(at("secret")) },
		"removeAll": func() error { return disk.RemoveAll(o, at("secret")) },
		"rename":    func() error { return o.Rename(at("secret"), at("new")) },
		"link":      func() error { return o.Link(at("secret"), at("new")) },
		"symlink":   func() error { return o.Symlink("/", at("new")) },
		"mkdir":     func() error { return disk.MkdirAll(o, at("new"), 0o755) },
		"list":      func() error { _, err := o.ReadDir(at(".")); return err },
		"lstat":     func() error { _, err := o.Lstat(at("secret")); return err },
		"stat":      func() error { _, err := o.Stat(at("secret")); return err },
		"sync":      func() error { return o.SyncDir(at(".")) },
		"flush":     func() error { _, err := o.OpenFlush(at(".")); return err },
		"lock":      func() error { _, err := o.Lock(at(".")); return err },
		"free":      func() error { _, err := o.Free(at(".")); return err },
		"chown":     func() error { return o.Chown(at("secret"), os.Getuid(), os.Getgid()) },
		"chmod":     func() error { return o.Chmod(at("secret"), 0o777) },
		"attr":      func() error { _, err := o.Attr(at("secret"), "x"); return err },
		"resolve":   func() error { _, err := o.Real(at("secret")); return err },
		"walk":      func() error { return disk.Walk(o, at("secret"), func(string, fs.FileInfo) error { return nil }) },
	}
}

// TestOS_NoOperationFollowsPlantedLinks: a folder of the path is a symlink that another
// user could have put there.
func TestOS_NoOperationFollowsPlantedLinks(t *testing.T) {
	folder, private := shared(t)
	must(t, os.Symlink(private, filepath.Join(folder, "data")))
	for name, op := range operations(filepath.Join(folder, "data")) {
		if err := op(); !errors.Is(err, disk.ErrLink) {
			t.Errorf("%s: %v, want ErrLink", name, err)
		}
	}
	// The last name.
	must(t, os.Symlink(filepath.Join(private, "secret"), filepath.Join(folder, "secret")))
	for _, name := range []string{"read", "append", "truncate", "stat", "attr", "resolve"} {
		if err := operations(folder)[name](); !errors.Is(err, disk.ErrLink) {
			t.Errorf("%s of a link: %v, want ErrLink", name, err)
		}
	}
	for _, name := range []string{"chown", "chmod"} {
		if err := operations(folder)[name](); !errors.Is(err, disk.ErrNotRegular) {
			t.Errorf("%s of a link: %v, want ErrNotRegular", name, err)
		}
	}
	left, err := os.ReadDir(private)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(private, "secret")); len(left) != 1 || err != nil || string(b) != "secret" {
		t.Errorf("behind the links: %v, %q, %v", left, b, err)
	}
	if fi, err := os.Stat(filepath.Join(private, "secret")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("behind the links: %v, %v", fi, err)
	}
}

// TestOS_FollowsLinksOfItsOwn: links that an administrator made are followed.
func TestOS_FollowsLinksOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	must(t, os.Mkdir(real, 0o755), os.WriteFile(filepath.Join(real, "secret"), []byte("abc"), 0o600),
		os.Symlink("real", filepath.Join(dir, "relative")), os.Symlink(filepath.Join(dir, "relative"), filepath.Join(dir, "absolute")))
	for _, link := range []string{"relative", "absolute"} {
		at := filepath.Join(dir, link)
		if b, err := disk.ReadFile(disk.OS{}, filepath.Join(at, "secret"), 10); err != nil || string(b) != "abc" {
			t.Errorf("%s: %q, %v", link, b, err)
		}
		if got, err := (disk.OS{}).Real(at); err != nil || got != real {
			t.Errorf("%s leads to %q, %v", link, got, err)
		}
		if fi, err := (disk.OS{}).Lstat(at); err != nil || fi.Mode()&fs.ModeSymlink == 0 || fi.Name() != link {
			t.Errorf("%s: %v, %v", link, fi, err)
		}
	}
	must(t, disk.ReplaceBytes(disk.OS{}, filepath.Join(dir, "absolute", "new"), 0o600, []byte("x")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if _, err := disk.ReadFile(disk.OS{}, filepath.Join(dir, "loop"), 10); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("loop: %v", err)
	}
	if _, err := (disk.OS{}).OpenFile(filepath.Join(dir, "relative"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over a link: %v", err)
	}
	t.Chdir(dir)
	if b, err := disk.ReadFile(disk.OS{}, "relative/secret", 10); err != nil || string(b) != "abc" {
		t.Errorf("from the working folder: %q, %v", b, err)
	}
	must(t, disk.ReplaceBytes(disk.OS{}, "here", 0o600, []byte("x")))
	if _, err := (disk.OS{}).Stat(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no name: %v", err)
	}
}

// TestOS_OpensRegularFilesOnly: opening anything else does not block.
func TestOS_OpensRegularFilesOnly(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	must(t, err, syscall.Mkfifo(at("pipe"), 0o600), os.Mkdir(at("folder"), 0o700))
	defer func() { _ = l.Close() }()
	for _, name := range []string{at("pipe"), at("folder"), at("socket"), "/dev/zero"} {
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREATE | os.O_TRUNC} {
			if _, err := (disk.OS{}).OpenFile(name, flag, 0o600); !errors.Is(err, disk.ErrNotRegular) && !errors.Is(err, syscall.EISDIR) {
				t.Errorf("%s, flag %x: %v", name, flag, err)
			}
		}
	}
}

// TestOS_RefusesHardLinksOfOthers: a hard link to another user's file in one's own folder
// is not opened by a more privileged user, nor truncated.
func TestOS_RefusesHardLinksOfOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: gives a folder to another user")
	}
	folder, private := shared(t)
	must(t, os.Link(filepath.Join(private, "secret"), filepath.Join(folder, "secret")), os.Chown(folder, 65534, 65534))
	for _, name := range []string{"read", "append", "truncate", "chown", "chmod"} {
		if err := operations(folder)[name](); !errors.Is(err, disk.ErrNotRegular) {
			t.Errorf("%s: %v, want ErrNotRegular", name, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(private, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("behind the link: %q, %v", b, err)
	}
	must(t, os.Chown(filepath.Join(private, "secret"), 65534, 65534))
	if b, err := disk.ReadFile(disk.OS{}, filepath.Join(folder, "secret"), 10); err != nil || string(b) != "secret" {
		t.Errorf("their own: %q, %v", b, err)
	}
}

// TestOS_RefusesLinksOwnedByOthers: also in a folder that only this user may change.
func TestOS_RefusesLinksOwnedByOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: gives a link to another user")
	}
	_, private := shared(t)
	link := filepath.Join(private, "link")
	must(t, os.Symlink("secret", link), os.Lchown(link, 65534, 65534))
	if _, err := disk.ReadFile(disk.OS{}, link, 10); !errors.Is(err, disk.ErrLink) {
		t.Errorf("read: %v", err)
	}
	// Below a folder of another user, none is.
	theirs := filepath.Join(private, "theirs")
	must(t, os.Mkdir(theirs, 0o755), os.Symlink(private, filepath.Join(theirs, "up")), os.Chown(theirs, 65534, 65534))
	if _, err := disk.ReadFile(disk.OS{}, filepath.Join(theirs, "up", "secret"), 10); !errors.Is(err, disk.ErrLink) {
		t.Errorf("read: %v", err)
	}
}

// TestOS_HoldsAgainstASwapper: while a folder and a symlink are swapped at full speed, no
// operation reaches the symlink's target.
func TestOS_HoldsAgainstASwapper(t *testing.T) {
	folder, private := shared(t)
	data, link := filepath.Join(folder, "data"), filepath.Join(folder, "link")
	must(t, os.Mkdir(data, 0o777), os.WriteFile(filepath.Join(data, "secret"), []byte("public"), 0o600), os.Symlink(private, link))
	stop := rival.Exchange(t, data, link)
	reached := 0
	for range 1000 {
		for name, op := range operations(data) {
			if name == "walk" || name == "lock" { // many steps, or a descriptor to give back
				continue
			}
			if op() == nil {
				reached++
			}
			if name == "removeAll" || name == "remove" || name == "rename" {
				_ = disk.ReplaceBytes(disk.OS{}, filepath.Join(data, "secret"), 0o600, []byte("public"))
			}
		}
		if b, err := disk.ReadFile(disk.OS{}, filepath.Join(data, "secret"), 10); err == nil && string(b) == "secret" {
			t.Fatal("read what the link leads to")
		}
	}
	stop()
	left, err := os.ReadDir(private)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(private, "secret")); len(left) != 1 || err != nil || string(b) != "secret" {
		t.Errorf("behind the link: %v, %q, %v", left, b, err)
	}
	if reached == 0 {
		t.Error("no operation found the folder: nothing was tried")
	}
}

// TestRemoveAll_RemovesLinksNotWhatTheyLeadTo: at any depth.
func TestRemoveAll_RemovesLinksNotWhatTheyLeadTo(t *testing.T) {
	folder, private := shared(t)
	at := filepath.Join(folder, "tree")
	must(t, os.MkdirAll(filepath.Join(at, "a", "b"), 0o777), os.Symlink(private, filepath.Join(at, "a", "b", "link")),
		os.Symlink(private, filepath.Join(at, "link")), syscall.Mkfifo(filepath.Join(at, "pipe"), 0o600))
	must(t, disk.RemoveAll(disk.OS{}, at), disk.RemoveAll(disk.OS{}, at))
	if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(private, "secret")); err != nil {
		t.Error(err)
	}
}

// TestOS_DescribesAsPackageOS: kinds, modes, sizes and times are the same.
func TestOS_DescribesAsPackageOS(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("file"), []byte("abc"), 0o640), os.Symlink("file", at("link")), syscall.Mkfifo(at("pipe"), 0o600),
		os.Mkdir(at("folder"), 0o700), os.Chmod(at("folder"), 0o770|fs.ModeSetgid), os.WriteFile(at("suid"), nil, 0o600),
		os.Chmod(at("suid"), 0o755|fs.ModeSetuid))
	for _, name := range []string{at("file"), at("link"), at("pipe"), at("folder"), at("suid"), "/tmp", "/dev/null", "/"} {
		want, err := os.Lstat(name)
		must(t, err)
		got, err := (disk.OS{}).Lstat(name)
		must(t, err)
		if got.Name() != want.Name() || got.Mode() != want.Mode() || got.Size() != want.Size() || !got.ModTime().Equal(want.ModTime()) ||
			got.IsDir() != want.IsDir() || !disk.SameFile(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
