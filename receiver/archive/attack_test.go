package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cis490/internal/disk/rival"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/archive"
)

// TestRun_RacedByALink: root archives while the owner of the store exchanges a
// host's folder, and a tarball in it, with a link to what only root may read.
func TestRun_RacedByALink(t *testing.T) {
	o, tarball, copied := onDisk(t)
	o.Archive = func(context.Context, ident.Host, []wire.Pair) ([]ident.EpisodeID, error) {
		return nil, errors.New("serve is not running")
	}
	away := filepath.Join(t.TempDir(), "away")
	secret := filepath.Join(away, filepath.Base(tarball))
	if err := errors.Join(os.Mkdir(away, 0o700), os.WriteFile(secret, []byte("SECRET"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{filepath.Dir(tarball): away, tarball: secret} {
		link := filepath.Join(o.Backend.Name, "link")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		rival.Give(t, o.Backend.Name)
		stop := rival.Exchange(t, name, link)
		for range 200 {
			_, _ = archive.Run(t.Context(), o) // it may refuse
			if b, err := os.ReadFile(copied); err == nil && strings.Contains(string(b), "SECRET") {
				t.Errorf("%s: root copied what a link led to", name)
			}
			_ = os.Remove(copied)
		}
		stop()
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRun_LeavesWhatIsNoTarball: what serve's user puts in the place of a tarball
// holds up nothing, is not followed, and is named; the others are moved.
func TestRun_LeavesWhatIsNoTarball(t *testing.T) {
	const end = "01ARZ3NDEKTSV4RRFFQ69G5F0"
	for what, plant := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"hole":   func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<30)) },
	} {
		o, tarball, copied := onDisk(t)
		planted := filepath.Join(filepath.Dir(tarball), end+"1"+wire.TarballSuffix)
		if err := plant(planted); err != nil {
			t.Fatal(err)
		}
		// Of another host too, whose whole folder is none.
		if err := os.Symlink("/etc", filepath.Join(o.Backend.Name, "episodes", "aaa")); err != nil {
			t.Fatal(err)
		}
		got, err := archive.Run(t.Context(), o)
		if err != nil || got.Episodes != 1 || len(got.Left) != 1 || !strings.Contains(got.Left[0], end+"1") {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		if _, err := os.Stat(copied); err != nil {
			t.Errorf("%s: the tarball beside it was not moved: %v", what, err)
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(copied), filepath.Base(planted))); err == nil {
			t.Errorf("%s was copied", what)
		}
	}
}

// TestRun_LeavesAHardLink: a file of root's is not the store's by another name.
func TestRun_LeavesAHardLink(t *testing.T) {
	o, tarball, copied := onDisk(t)
	rival.Give(t, o.Backend.Name)
	secret := filepath.Join(filepath.Dir(o.Backend.Name), "secret")
	err := errors.Join(os.Remove(tarball), os.WriteFile(secret, []byte("SECRET"), 0o600), os.Link(secret, tarball))
	if err != nil {
		t.Fatal(err)
	}
	got, err := archive.Run(t.Context(), o)
	if err != nil || got.Episodes != 0 || len(got.Left) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(copied); err == nil {
		t.Error("it was copied")
	}
}

// TestCheck_FollowsNoLinkOfAnother: the target is the administrator's to choose, not
// the choice of a user who owns the folder that it is named in.
func TestCheck_FollowsNoLinkOfAnother(t *testing.T) {
	o, _, _ := onDisk(t)
	theirs := filepath.Join(t.TempDir(), "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Symlink(o.To, filepath.Join(theirs, "archive"))); err != nil {
		t.Fatal(err)
	}
	rival.Give(t, theirs)
	if err := archive.Check(o.Backend.Name, filepath.Join(theirs, "archive")); err == nil {
		t.Error("the link was followed")
	}
	if err := archive.Check(o.Backend.Name, o.To); err != nil {
		t.Error(err)
	}
}
