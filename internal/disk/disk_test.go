package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
)

// TestReplace_OldOrNewAtEveryStep: after any fault and any loss of power the file has the
// old content or the new; the new one if Replace returned nil; and nothing else is left
// behind unless power was lost.
func TestReplace_OldOrNewAtEveryStep(t *testing.T) {
	for _, fault := range []faultdisk.Fault{faultdisk.Fail, faultdisk.NoSpace, faultdisk.Short, faultdisk.PowerLoss} {
		for _, survive := range []faultdisk.Survive{faultdisk.Nothing, faultdisk.Names, faultdisk.HalfData, faultdisk.All} {
			for at := 1; ; at++ {
				d := faultdisk.New("/d")
				if err := disk.ReplaceBytes(d, "/d/f", 0o600, []byte("old content")); err != nil {
					t.Fatal(err)
				}
				d.Arm(at, fault)
				err := disk.ReplaceBytes(d, "/d/f", 0o600, []byte("the new content"))
				if d.Calls() < at {
					break
				}
				if fault != faultdisk.PowerLoss && disk.Exists(d, "/d/f"+disk.Partial) {
					t.Errorf("fault %d at call %d left a partial file", fault, at)
				}
				d.Reboot(survive)
				got, rerr := disk.ReadFile(d, "/d/f", 100)
				if rerr != nil || (string(got) != "old content" && string(got) != "the new content") {
					t.Errorf("fault %d at call %d, survive %d: %q, %v", fault, at, survive, got, rerr)
				}
				if err == nil && string(got) != "the new content" {
					t.Errorf("fault %d at call %d, survive %d: acknowledged, but %q", fault, at, survive, got)
				}
			}
		}
	}
}

func TestOS_ReplaceKeepsModeWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "f")
	if err := disk.ReplaceBytes(disk.OS{}, path, 0o664, []byte("x")); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o664 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	folder := filepath.Join(filepath.Dir(path), "a", "b")
	if err := disk.MkdirAll(disk.OS{}, folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Dir(folder)); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("folder: mode %v, %v", fi.Mode(), err)
	}
}

func TestReplace_FailedWriterLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	// With a directory in place of the file, the rename fails.
	if err := os.Mkdir(filepath.Join(dir, "f"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := disk.ReplaceBytes(disk.OS{}, filepath.Join(dir, "f"), 0o600, []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if disk.Exists(disk.OS{}, filepath.Join(dir, "f"+disk.Partial)) {
		t.Error("a partial file is left")
	}
}

func TestReadFile_Limit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.ReadFile(disk.OS{}, path, 10); err == nil {
		t.Error("read more than the limit")
	}
	if _, err := disk.ReadFile(disk.OS{}, path+"x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	d := faultdisk.New("/d")
	if err := disk.MkdirAll(d, "/d/a/b", 0o750); err != nil {
		t.Fatal(err)
	}
	d.Reboot(faultdisk.Nothing)
	if !disk.Exists(d, "/d/a/b") {
		t.Error("the folder did not survive")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.MkdirAll(disk.OS{}, filepath.Join(dir, "x", "y"), 0o755); err == nil {
		t.Error("made a folder below a file")
	}
}

func TestReadFile_RegularOnly(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(at("file"), []byte("abc"), 0o600), os.Symlink("file", at("link")), syscall.Mkfifo(at("pipe"), 0o600),
		os.Mkdir(at("folder"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := disk.ReadFile(disk.OS{}, at("file"), 3); err != nil || string(b) != "abc" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := disk.ReadFile(disk.OS{}, at("file"), 2); err == nil {
		t.Error("read more than the limit")
	}
	for _, name := range []string{"pipe", "folder", "none"} {
		if b, err := disk.ReadFile(disk.OS{}, at(name), 3); err == nil {
			t.Errorf("read %q from a %s", b, name)
		}
	}
	if b, err := disk.ReadFile(disk.OS{}, at("link"), 3); err != nil || string(b) != "abc" {
		t.Errorf("its own symlink: got %q, %v", b, err)
	}
}

// A folder that was mounted or put in the place of the old one is not flushed by the old
// one's descriptor: that is reported once.
func TestFlush_TellsOfAnotherFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OS{}.OpenFlush(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); err == nil {
		t.Error("another folder was taken for flushed")
	}
	if err := errors.Join(f.Flush(), f.Close()); err != nil {
		t.Errorf("then: %v", err)
	}
}
