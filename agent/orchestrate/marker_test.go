package orchestrate_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/episode"
)

// watched is a file system that, at every create, checks for a marker without content,
// because a shipper may look at any moment.
type watched struct {
	disk.OS
	t   *testing.T
	dir string
}

func (w watched) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := w.OS.OpenFile(name, flag, perm)
	found, globErr := filepath.Glob(filepath.Join(w.dir, "*", episode.DoneMarker))
	if globErr != nil {
		return f, globErr
	}
	for _, path := range found {
		if fi, err := os.Stat(path); err == nil && fi.Size() == 0 {
			w.t.Errorf("%s is there before its content", path)
		}
	}
	return f, err
}

// In the fleet lab a shipper read an episode as soon as its marker had a name, and
// quarantined it because the marker changed while it was packed.
func TestOnce_TheMarkerAppearsWhole(t *testing.T) {
	t.Parallel()
	o := options(t, profile("echo event busy >&3; echo event quiet >&3"))
	o.FS = watched{t: t, dir: filepath.Join(o.DataDir, "episodes")}
	meta, dir := one(t, o)
	b, err := os.ReadFile(filepath.Join(dir, episode.DoneMarker))
	if err != nil || string(b) != string(meta.Verdict)+"\n" {
		t.Errorf("marker %q, %v", b, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"+disk.Partial))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
