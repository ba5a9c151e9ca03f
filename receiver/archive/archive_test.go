package archive_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/archive"
	"cis490/receiver/local"
)

// onDisk makes a store of one episode on a real disk, and a target.
func onDisk(t *testing.T) (o archive.Options, tarball, copied string) {
	t.Helper()
	dir := t.TempDir()
	o = archive.Options{
		FS: disk.OS{}, Backend: local.Open(local.Options{FS: disk.OS{}, Dir: filepath.Join(dir, "data")}), To: filepath.Join(dir, "archive"),
		Before: time.Now().Add(time.Hour), Limit: 1 << 20,
	}
	k := episodes[0]
	name := filepath.Join(string(k.Host), string(k.Episode)+wire.TarballSuffix)
	tarball, copied = filepath.Join(o.Backend.Name, "episodes", name), filepath.Join(o.To, name)
	for _, at := range []string{tarball, copied} {
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(tarball, []byte(content(k)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Archive = func(_ context.Context, _ ident.Host, pairs []wire.Pair) (done []ident.EpisodeID, err error) {
		for _, p := range pairs {
			done = append(done, p.Episode)
		}
		return done, os.Remove(tarball)
	}
	return o, tarball, copied
}

// TestRun_TakesTheStoresOwnFileForNoCopy: with a symlink at the target, or the
// store mounted there, the only tarball would be compared with itself, and go.
func TestRun_TakesTheStoresOwnFileForNoCopy(t *testing.T) {
	for name, lead := range map[string]func(from, to string) error{"symlink": os.Symlink, "the same file": os.Link} {
		o, tarball, copied := onDisk(t)
		if err := lead(tarball, copied); err != nil {
			t.Fatal(err)
		}
		got, err := archive.Run(t.Context(), o)
		if err != nil || got.Episodes != 0 || len(got.Left) != 1 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if b, err := os.ReadFile(tarball); err != nil || string(b) != content(episodes[0]) {
			t.Errorf("%s: the store has %q, %v", name, b, err)
		}
	}
}

// TestRun_IsAlone: a run that begins while another is at it changes nothing.
func TestRun_IsAlone(t *testing.T) {
	o, _, copied := onDisk(t)
	second, let := o, o.Archive
	o.Archive = func(ctx context.Context, h ident.Host, pairs []wire.Pair) ([]ident.EpisodeID, error) {
		if _, err := archive.Run(ctx, second); !errors.Is(err, disk.ErrLocked) {
			t.Errorf("the second run: %v", err)
		}
		return let(ctx, h, pairs)
	}
	got, err := archive.Run(t.Context(), o)
	if err != nil || got.Episodes != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if b, err := os.ReadFile(copied); err != nil || string(b) != content(episodes[0]) {
		t.Errorf("the copy is %q, %v", b, err)
	}
}
