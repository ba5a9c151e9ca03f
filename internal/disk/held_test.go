package disk_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"cis490/internal/disk"
)

// TestHeld_IsOS compares the effect of each call with that of OS, in a held folder and
// beside it.
func TestHeld_IsOS(t *testing.T) {
	run := func(fsys disk.FS, dir string) (out []string) {
		at := func(name string) string { return filepath.Join(dir, name) }
		note := func(what string, err error) {
			kind := "ok"
			for name, k := range map[string]error{
				"exists": fs.ErrExist, "missing": fs.ErrNotExist, "not regular": disk.ErrNotRegular, "link": disk.ErrLink,
			} {
				if errors.Is(err, k) {
					kind = name
				}
			}
			if err != nil && kind == "ok" {
				kind = "error"
			}
			out = append(out, what+": "+kind)
		}
		_, err := fsys.Lstat(at("a"))
		note("lstat missing", err)
		f, err := fsys.OpenFile(at("a"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		note("create", err)
		_, err = f.Write([]byte("content"))
		note("write", errors.Join(err, f.Close()))
		_, err = fsys.OpenFile(at("a"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		note("create again", err)
		note("link", fsys.Link(at("a"), at("b")))
		note("link again", fsys.Link(at("a"), at("b")))
		note("link missing", fsys.Link(at("none"), at("c")))
		a, err := fsys.Lstat(at("a"))
		note("lstat", err)
		if a.Name() != "a" || a.Size() != 7 || a.Mode().Perm() != 0o640 || disk.LinkCount(a) != 2 {
			note("facts", errors.New(a.Mode().String()))
		}
		if b, err := fsys.Lstat(at("b")); err != nil || !disk.SameFile(a, b) {
			note("same file", errors.Join(errors.New("differs"), err))
		}
		note("remove", fsys.Remove(at("b")))
		note("remove again", fsys.Remove(at("b")))
		note("mkdir", fsys.Mkdir(at("folder"), 0o755))
		note("remove folder", fsys.Remove(at("folder")))
		note("remove dots", fsys.Remove(at("x")+"/.."))
		if err := os.Symlink("a", at("s")); err != nil {
			t.Fatal(err)
		}
		_, err = fsys.OpenFile(at("s"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		note("create over a symlink", err)
		if s, err := fsys.Lstat(at("s")); err != nil || s.Mode()&fs.ModeSymlink == 0 {
			note("lstat symlink", errors.Join(errors.New("no symlink"), err))
		}
		if s, err := disk.Stat(fsys, at("s")); err != nil || s.Size() != 7 {
			note("stat symlink", errors.Join(errors.New("not followed"), err))
		}
		return out
	}
	want := run(disk.OS{}, t.TempDir())
	held, beside := t.TempDir(), t.TempDir()
	for _, dir := range []string{held, beside} {
		got := run(disk.Hold(held), dir)
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("got %q, OS %q", got, want)
			}
		}
	}
}

// TestHeld_Moved moves a held folder away and puts another in its place: a second later the
// new one is used.
func TestHeld_Moved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "held")
		h := disk.Hold(dir)
		if _, err := h.Lstat(dir + "/mark"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("before the folder exists:", err)
		}
		for _, mark := range []string{"first", "second"} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			f, err := h.OpenFile(dir+"/"+mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(dir, dir+"-"+mark); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(dir + "-" + mark + "/" + mark); err != nil {
				t.Errorf("it was made in another folder: %v", err)
			}
		}
	})
}

// TestHeld_FreeAsOS compares the free space.
func TestHeld_FreeAsOS(t *testing.T) {
	dir := t.TempDir()
	want, err := disk.OS{}.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := disk.Hold(dir).Free(dir)
	if err != nil || got < want/2 || got > want*2 {
		t.Errorf("free %d, %v; OS says %d", got, err, want)
	}
}
