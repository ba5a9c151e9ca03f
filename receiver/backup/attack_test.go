package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/internal/disk/rival"
	"cis490/receiver/backup"
)

// give gives a folder to the rival, who can also reach it.
func give(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	rival.Give(t, dir)
}

// TestRestore_RacedByALink: root restores while the owner of the data folder
// exchanges a folder below it with a link to one of root's.
func TestRestore_RacedByALink(t *testing.T) {
	from, to, away := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, from, precious)
	give(t, filepath.Join(from, "data")) // so that what is restored is the other user's
	file := save(t, from)
	for _, raced := range []string{"data/releases", "data/releases/blobs", "data/archived"} {
		write(t, to, precious)
		link := filepath.Join(to, "data/link")
		must(t, os.Symlink(away, link))
		give(t, filepath.Join(to, "data"))
		stop := rival.Exchange(t, filepath.Join(to, raced), link)
		for range 50 {
			_, _ = backup.Restore(file, places(to)) // it may refuse
		}
		stop()
		if got := tree(t, away); len(got) > 0 {
			t.Fatalf("%s: root wrote %v", raced, got)
		}
		fi, err := os.Stat(away)
		must(t, err)
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != 0 {
			t.Fatalf("%s: root gave its folder to user %d", raced, uid)
		}
		must(t, os.RemoveAll(filepath.Join(to, "data")))
	}
}

// TestSave_RacedByALink: what only root may read is in no backup, whatever the owner
// of the data folder exchanges meanwhile.
func TestSave_RacedByALink(t *testing.T) {
	from, away := t.TempDir(), t.TempDir()
	write(t, from, precious)
	for _, name := range []string{"abc", "lab-a", "manifest.json", "blobs/abc", "silences.jsonl"} {
		write(t, away, map[string]string{name: "SECRET"})
	}
	for _, raced := range []string{"data/releases", "data/releases/blobs", "data/archived", "data/silences.jsonl"} {
		link := filepath.Join(from, "data/link")
		target := away
		if strings.HasSuffix(raced, ".jsonl") {
			target = filepath.Join(away, "silences.jsonl")
		}
		must(t, os.Symlink(target, link))
		give(t, filepath.Join(from, "data"))
		stop := rival.Exchange(t, filepath.Join(from, raced), link)
		for range 100 {
			var b bytes.Buffer
			if _, err := backup.Save(&b, places(from), "1", time.Now()); err == nil && strings.Contains(contents(t, &b), "SECRET") {
				t.Fatalf("%s: root read through the link", raced)
			}
		}
		stop()
		must(t, os.Remove(link))
	}
}

// contents returns what all files of a backup hold.
func contents(t *testing.T, backup io.Reader) string {
	t.Helper()
	z, err := gzip.NewReader(backup)
	must(t, err)
	var all strings.Builder
	for r := tar.NewReader(z); ; {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		must(t, err)
		_, err = io.Copy(&all, r)
		must(t, err)
	}
}

// TestSave_LeavesOutWhatIsNoFile: what serve's user puts in the place of a file keeps
// no backup from being made, and none waiting; it is named.
func TestSave_LeavesOutWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, precious)
	at := func(name string) string { return filepath.Join(dir, "data", name) }
	secret := filepath.Join(dir, "secret")
	must(t, os.WriteFile(secret, []byte("SECRET"), 0o600))
	must(t, errors.Join(
		syscall.Mkfifo(at("alerts.jsonl"), 0o600),
		os.Symlink(secret, at("linked.jsonl")),
		syscall.Mkfifo(at("releases/blobs/pipe"), 0o600),
		os.Symlink(secret, at("archived/lab-b")),
		os.WriteFile(at("endless.jsonl"), nil, 0o600),
		os.Truncate(at("endless.jsonl"), 8<<30), // a hole
	))
	want := []string{"alerts.jsonl", "linked.jsonl", "releases/blobs/pipe", "archived/lab-b", "endless.jsonl"}
	if os.Geteuid() == 0 { // another user's file, by another name
		must(t, os.Link(secret, at("hard.jsonl")))
		give(t, filepath.Join(dir, "data"))
		must(t, os.Lchown(secret, 0, 0))
		want = append(want, "hard.jsonl")
	}
	var b bytes.Buffer
	h, err := backup.Save(&b, places(dir), "1", time.Now())
	must(t, err)
	if strings.Contains(contents(t, &b), "SECRET") {
		t.Error("the backup has what a link leads to")
	}
	if h.Files != len(precious) || len(h.LeftOut) != len(want) {
		t.Errorf("%d files, left out %q", h.Files, h.LeftOut)
	}
	for _, name := range want {
		if !strings.Contains(strings.Join(h.LeftOut, "\n"), at(name)) {
			t.Errorf("%s is not named in %q", name, h.LeftOut)
		}
	}
}

// TestRestore_BackupIsNoFile: it waits for no pipe that is named as a backup.
func TestRestore_BackupIsNoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "backup.tar.gz")
	must(t, syscall.Mkfifo(pipe, 0o600))
	if _, err := backup.Restore(pipe, places(t.TempDir())); err == nil || !strings.Contains(err.Error(), pipe) {
		t.Errorf("restored from a pipe: %v", err)
	}
}

// TestSave_AuthorityIsWhole: a backup without a file of the authority is none.
func TestSave_AuthorityIsWhole(t *testing.T) {
	for _, name := range []string{"authority/roster.jsonl", "authority/ca.key", "etc/receiver.toml"} {
		dir := t.TempDir()
		write(t, dir, precious)
		must(t, os.Remove(filepath.Join(dir, name)))
		must(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
		if _, err := backup.Save(io.Discard, places(dir), "1", time.Now()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a pipe in the place of %s: %v", name, err)
		}
	}
}

// TestSave_OneFileSpoilsNoBackup: a file that is cut while it is saved, and folders
// deeper than a path may be, are named, and all else is saved.
func TestSave_OneFileSpoilsNoBackup(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, precious)
	cut := filepath.Join(dir, "data/alerts.jsonl")
	noise := make([]byte, 8<<20) // so that the backup is written out in the middle of it
	_, _ = rand.Read(noise)
	must(t, os.WriteFile(cut, noise, 0o640))
	deep, err := os.OpenRoot(filepath.Join(dir, "data/archived"))
	must(t, err)
	for range 40 {
		must(t, deep.Mkdir(strings.Repeat("d", 200), 0o755))
		next, err := deep.OpenRoot(strings.Repeat("d", 200))
		must(t, errors.Join(err, deep.Close()))
		deep = next
	}
	must(t, deep.Close())
	var out bytes.Buffer
	h, err := backup.Save(writer(func(b []byte) (int, error) {
		if out.Len() > 1<<20 {
			must(t, os.Truncate(cut, 0))
		}
		return out.Write(b)
	}), places(dir), "1", time.Now())
	if err != nil || len(h.LeftOut) != 2 || !strings.Contains(h.LeftOut[0], "archived") || !strings.Contains(h.LeftOut[1], cut) {
		t.Fatalf("left out %.300q, %v", h.LeftOut, err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	must(t, os.WriteFile(file, out.Bytes(), 0o600))
	if h, err := backup.Restore(file, places(t.TempDir())); err != nil || h.Files < len(precious)-1 {
		t.Errorf("restored %d files: %v", h.Files, err)
	}
}

type writer func(b []byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
