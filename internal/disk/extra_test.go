package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
)

func TestOS_AttrsSpaceLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fsys := disk.OS{}
	if _, err := fsys.Attr(path, "cis490.test"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("absent attribute: %v", err)
	}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	switch err := fsys.SetAttr(f, "cis490.test", []byte("v")); {
	case errors.Is(err, errors.ErrUnsupported): // such as an old tmpfs
	case err != nil:
		t.Error(err)
	default:
		if v, err := fsys.Attr(path, "cis490.test"); err != nil || string(v) != "v" {
			t.Errorf("attribute is %q, %v", v, err)
		}
	}
	if n, err := fsys.Free(dir); err != nil || n <= 0 {
		t.Errorf("free is %d, %v", n, err)
	}
	l, err := fsys.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Lock(dir); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := fsys.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRelink_IsNeverAbsent(t *testing.T) {
	for name, survive := range map[string]faultdisk.Survive{"nothing": faultdisk.Nothing, "names": faultdisk.Names, "all": faultdisk.All} {
		for n := 1; ; n++ {
			d := faultdisk.New("/opt")
			if err := disk.Relink(d, "a", "/opt/current"); err != nil {
				t.Fatal(err)
			}
			d.Arm(n, faultdisk.PowerLoss)
			err := disk.Relink(d, "b", "/opt/current")
			d.Reboot(survive)
			got, rerr := disk.Readlink(d, "/opt/current")
			if rerr != nil || (got != "a" && got != "b") || (err == nil && got != "b") {
				t.Fatalf("power lost at call %d, %s survives: leads to %q, %v", n, name, got, rerr)
			}
			if err == nil {
				break
			}
		}
	}
	dir := t.TempDir()
	for _, target := range []string{"a", "b"} {
		if err := disk.Relink(disk.OS{}, target, dir+"/link"); err != nil {
			t.Fatal(err)
		}
		if got, err := disk.Readlink(disk.OS{}, dir+"/link"); err != nil || got != target {
			t.Error(got, err)
		}
	}
}

// TestOS_LockEndsWithClose: also if a child that has just been forked has the file open, too.
func TestOS_LockEndsWithClose(t *testing.T) {
	dir := t.TempDir()
	held, err := disk.OS{}.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == filepath.Join(dir, disk.LockName) {
			n, _ := strconv.Atoi(filepath.Base(fd))
			child, err := syscall.Dup(n)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = syscall.Close(child) }()
		}
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := disk.OS{}.Lock(dir)
	if err != nil {
		t.Fatalf("Close has left the lock to a child: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOS_LockIsTheOwners: a user who may only list a folder cannot lock it.
func TestOS_LockIsTheOwners(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(dir) // as any user can
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65533, 65533); err != nil {
			t.Fatal(err)
		}
	}
	l, err := (disk.OS{}).Lock(dir)
	if err != nil {
		t.Fatalf("one who can list the folder keeps its owner out: %v", err)
	}
	defer func() { _ = l.Close() }()
	at, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, disk.LockName))
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != at.Sys().(*syscall.Stat_t).Uid {
		t.Errorf("the lock's file: %v, %v; want one of the folder's owner alone", fi, err)
	}
}
