package backup_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver/backup"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func places(dir string) backup.Places {
	return backup.Places{
		Config: filepath.Join(dir, "etc/receiver.toml"), Operator: filepath.Join(dir, "etc/operator"),
		Data: filepath.Join(dir, "data"), Authority: filepath.Join(dir, "authority"),
	}
}

// tree returns all files under dir but locks, with content and rights.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == disk.LockName {
			return err
		}
		b, err := os.ReadFile(p)
		fi, _ := e.Info()
		rel, _ := filepath.Rel(dir, p)
		all[rel] = fi.Mode().String() + " " + string(b)
		return err
	}))
	return all
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640))
	}
}

func save(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	_, err := backup.Save(&b, places(dir), "1.0.0", time.Now())
	must(t, err)
	file := filepath.Join(t.TempDir(), "backup.tar.gz")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	return file
}

var precious = map[string]string{
	"etc/receiver.toml": "public_url = 1", "etc/operator": "token", "etc/access-tokens.json": "[]",
	"authority/ca.key": "key", "authority/roster.jsonl": "{}\n",
	"data/rejections.jsonl": "{}\n", "data/silences.jsonl": "{}\n", "data/contacts.json": "{}",
	"data/host-notes.json":        "{}",
	"data/releases/manifest.json": "{}", "data/releases/blobs/abc": "binary",
	"data/archived/lab-a": "list",
}

func TestRestore_BringsBackWhatCannotBeRebuilt(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, precious)
	must(t, os.Chmod(filepath.Join(from, "authority/ca.key"), 0o600))
	want := tree(t, from)
	write(t, from, map[string]string{ // can be rebuilt, or is the store's own
		"data/index.jsonl": "{}\n", "data/store_id": "old", "data/episodes/lab-a/x.tar.zst": "x", "data/staged/y": "y",
		"authority/roster.jsonl.partial": "half",
	})
	file := save(t, from)

	write(t, to, map[string]string{"data/store_id": "fresh", "authority/ca.key": "of the new machine", "etc/store/ids": "fresh\n"})
	h, err := backup.Restore(file, places(to))
	must(t, err)
	if h.Files != len(precious) || h.Version != "1.0.0" {
		t.Errorf("head %+v", h)
	}
	got := tree(t, to)
	if _, err := os.Stat(filepath.Join(to, "etc/store/new")); err != nil { // or serve would wait for the store of before
		t.Error(err)
	}
	delete(got, "etc/store/ids")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := backup.Restore(file, places(to)); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestRestore_RefusesAndChangesNothing(t *testing.T) {
	from := t.TempDir()
	write(t, from, precious)
	whole, err := os.ReadFile(save(t, from))
	must(t, err)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for name, content := range map[string][]byte{"empty": nil, "cut": whole[:len(whole)-9], "damaged": damaged, "text": []byte("hello")} {
		to := t.TempDir()
		write(t, to, map[string]string{"data/store_id": "mine", "authority/ca.key": "mine"})
		before := tree(t, to)
		file := filepath.Join(t.TempDir(), "backup")
		must(t, os.WriteFile(file, content, 0o600))
		if _, err := backup.Restore(file, places(to)); err == nil {
			t.Errorf("%s is taken", name)
		}
		if diff := cmp.Diff(before, tree(t, to)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	to := t.TempDir()
	write(t, to, map[string]string{"data/store_id": "mine"})
	lock, err := disk.OS{}.Lock(places(to).Data)
	must(t, err)
	file := filepath.Join(t.TempDir(), "backup")
	must(t, os.WriteFile(file, whole, 0o600))
	if _, err := backup.Restore(file, places(to)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("while serve runs: %v", err)
	}
	must(t, lock.Close())
	if len(tree(t, to)) != 1 {
		t.Errorf("left %v", tree(t, to))
	}
}

// TestRestore_RefusesAConfigThatLooksElsewhere: put where this machine has its
// files, what is brought back would not be found by the config that comes with it.
func TestRestore_RefusesAConfigThatLooksElsewhere(t *testing.T) {
	for _, key := range []string{"data_dir", "operator_file", "dir"} {
		from, to := t.TempDir(), t.TempDir()
		write(t, from, precious)
		conf := map[string]string{"data_dir": places(to).Data, "operator_file": places(to).Operator, "dir": places(to).Authority}
		text := func() string {
			return fmt.Sprintf(
				"public_url = \"https://r:1\"\ndata_dir = %q\noperator_file = %q\n[authority]\ndir = %q\n",
				conf["data_dir"],
				conf["operator_file"],
				conf["dir"],
			)
		}
		good := text()
		conf[key] = "/srv/elsewhere"
		write(t, from, map[string]string{"etc/receiver.toml": text()})
		write(t, to, map[string]string{"etc/receiver.toml": "of the new machine", "data/store_id": "mine", "authority/ca.key": "mine"})
		before := tree(t, to)
		_, err := backup.Restore(save(t, from), places(to))
		if err == nil || !strings.Contains(err.Error(), key+` = "/srv/elsewhere"`) || fault.CodeOf(err) != fault.Config ||
			fault.FixOf(err) == "" {
			t.Errorf("%s: %v", key, err)
		}
		if diff := cmp.Diff(before, tree(t, to)); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
		write(t, from, map[string]string{"etc/receiver.toml": good})
		_, err = backup.Restore(save(t, from), places(to))
		must(t, err)
	}
}

// TestRestore_FollowsNoSymlink: serve's user could make one in its folder, and root
// would write where it leads.
func TestRestore_FollowsNoSymlink(t *testing.T) {
	from, to, away := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, from, precious)
	file := save(t, from)
	for _, name := range []string{"data/releases", "data/releases/blobs", "data/archived"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755))
		must(t, os.Symlink(away, filepath.Join(to, name)))
		if _, err := backup.Restore(file, places(to)); err == nil || !strings.Contains(err.Error(), name+" is a symlink") {
			t.Errorf("%s: %v", name, err)
		}
		if len(tree(t, away)) > 0 {
			t.Errorf("%s: %v was written", name, tree(t, away))
		}
		must(t, os.Remove(filepath.Join(to, name)))
	}
	_, err := backup.Restore(file, places(to))
	must(t, err)
}

func TestSave_NeedsConfigAndAuthority(t *testing.T) {
	for _, gone := range []string{"etc/receiver.toml", "authority", "authority/ca.key"} {
		dir := t.TempDir()
		write(t, dir, precious)
		must(t, os.RemoveAll(filepath.Join(dir, gone)))
		if _, err := backup.Save(&bytes.Buffer{}, places(dir), "1", time.Now()); err == nil {
			t.Errorf("saved without %s", gone)
		}
	}
}

// TestSave_SymlinksOfTheSite: what the config names may lie elsewhere. A symlink
// among the files, which a daemon's user could make, is named and never followed.
func TestSave_SymlinksOfTheSite(t *testing.T) {
	real, dir := t.TempDir(), t.TempDir()
	write(t, real, precious)
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	for _, name := range []string{"etc/receiver.toml", "etc/operator", "authority", "data"} {
		must(t, os.Symlink(filepath.Join(real, name), filepath.Join(dir, name)))
	}
	to := t.TempDir()
	h, err := backup.Restore(save(t, dir), places(to))
	must(t, err)
	if diff := cmp.Diff(tree(t, real), tree(t, to)); diff != "" || h.Files != len(precious) {
		t.Errorf("%d files: %s", h.Files, diff)
	}
	for _, name := range []string{"authority/ca.key", "data/releases", "data/silences.jsonl"} {
		must(t, os.Rename(filepath.Join(real, name), filepath.Join(real, "moved")))
		must(t, os.Symlink(filepath.Join(real, "moved"), filepath.Join(real, name)))
		h, err := backup.Save(&bytes.Buffer{}, places(dir), "1", time.Now())
		named := strings.Join(h.LeftOut, "\n")
		if name == "authority/ca.key" {
			named = fmt.Sprint(err)
		} else if err != nil {
			t.Errorf("%s is a symlink: %v", name, err)
		}
		if !strings.Contains(named, name) || !strings.Contains(named, disk.ErrLink.Error()) {
			t.Errorf("%s is a symlink: %s, %v", name, named, err)
		}
		must(t, os.Rename(filepath.Join(real, "moved"), filepath.Join(real, name+".x")))
		must(t, os.Remove(filepath.Join(real, name)))
		must(t, os.Rename(filepath.Join(real, name+".x"), filepath.Join(real, name)))
	}
}

// TestSave_NoOperator: without an operator token the backup has none, and does not
// include the current folder.
func TestSave_NoOperator(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, precious)
	t.Chdir(dir)
	p := places(dir)
	with, err := backup.Save(&bytes.Buffer{}, p, "1", time.Now())
	must(t, err)
	p.Operator = ""
	without, err := backup.Save(&bytes.Buffer{}, p, "1", time.Now())
	must(t, err)
	if without.Files != with.Files-2 { // access tokens are beside it
		t.Errorf("%d files without an operator, %d with one", without.Files, with.Files)
	}
}
