package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cis490/internal/disk/disktest"
)

// TestWalk_OpensWhatOpenDoes: where this user made all symlinks, a walk has the result of
// openat(2): the same file or the same error.
func TestWalk_OpensWhatOpenDoes(t *testing.T) {
	tree := func() string {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		err := errors.Join(os.MkdirAll(at("dir/sub"), 0o755), os.WriteFile(at("dir/file"), nil, 0o644), os.WriteFile(at("locked"), nil, 0),
			os.Symlink("dir/file", at("to-file")), os.Symlink("dir", at("to-dir")), os.Symlink(at("dir"), at("absolute")),
			os.Symlink("missing", at("dangling")), os.Symlink("loop", at("loop")), os.Symlink("/", at("top")),
			os.Symlink("../dir/../to-dir/sub", at("dir/around")), os.Symlink("to-file", at("twice")))
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	type found struct {
		errno error
		name  string // of the file, below the tree
	}
	result := func(fd int, err error, tree string) found {
		if err != nil {
			for _, n := range []syscall.Errno{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EEXIST, unix.EISDIR, unix.EACCES} {
				if errors.Is(err, n) {
					return found{errno: n}
				}
			}
			return found{errno: err}
		}
		defer func() { _ = unix.Close(fd) }()
		name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		rel, _ := filepath.Rel(tree, name)
		return found{err, rel}
	}
	for flags, what := range map[int]string{
		unix.O_RDONLY: "read", unix.O_PATH: "path", unix.O_PATH | unix.O_DIRECTORY: "folder", unix.O_PATH | unix.O_NOFOLLOW: "itself",
		unix.O_DIRECTORY: "open folder", unix.O_RDONLY | unix.O_NOFOLLOW: "no link", unix.O_WRONLY | unix.O_CREAT: "create",
		unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL: "create new", unix.O_RDWR | unix.O_TMPFILE: "nameless",
	} {
		for _, name := range []string{
			"dir", "dir/file", "dir/file/x", "missing", "missing/x", "to-file", "to-dir", "to-dir/file", "absolute/sub", "absolute", "dangling",
			"dangling/x", "loop", "loop/x", "top", "dir/around", "dir/around/x", "twice", "dir/..", "dir/../to-dir/..", ".", "locked", "to-file/x",
		} {
			real, walked := tree(), tree()
			fd, err := unix.Openat(unix.AT_FDCWD, real+"/"+name, flags, 0o600)
			want := result(fd, err, real)
			w := &walk{uid: os.Geteuid(), gid: os.Getegid()}
			fd, err = w.open(walked+"/"+name, flags|unix.O_CLOEXEC, 0o600)
			w.close()
			if got := result(fd, err, walked); got != want && what != "nameless" || (got.errno == nil) != (want.errno == nil) {
				t.Errorf("%s %s: %+v, openat(2) says %+v", what, name, got, want)
			}
		}
	}
}

// TestAll_WithoutOpenat2 runs the other tests of this package where openat2 is rejected, as in
// the services' sandbox.
func TestAll_WithoutOpenat2(t *testing.T) {
	const state = "CIS490_TEST_OPENAT2"
	switch os.Getenv(state) {
	case "":
		cmd := exec.Command(os.Args[0], "-test.run=^TestAll_WithoutOpenat2$")
		cmd.Env = append(os.Environ(), state+"=reject")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("openat2 is rejected")) {
			t.Errorf("%v\n%s", err, out)
		}
	case "reject":
		t.Setenv(state, "rejected")
		t.Fatal(disktest.Exec(os.Args[0], []string{os.Args[0], "-test.v"}, os.Environ()))
	default:
		t.Log("openat2 is rejected")
	}
}
