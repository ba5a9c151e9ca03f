package orchestrate_test

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/internal/disk"
	"cis490/internal/episode"
)

// quickShipper is a disk on which a complete episode is shipped and removed before the
// recorder returns from writing its marker.
type quickShipper struct {
	disk.OS
	taken *int
}

func (q quickShipper) SyncDir(dir string) error {
	if disk.Exists(disk.OS{}, filepath.Join(dir, episode.DoneMarker)) {
		*q.taken++
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return q.OS.SyncDir(dir)
}

func TestOnce_TheShipperTakesItAtOnce(t *testing.T) {
	o := options(t, profile("echo event busy >&3; echo event quiet >&3"))
	taken := 0
	o.FS = quickShipper{taken: &taken}
	if _, err := open(t, o).Once(t.Context(), ""); err != nil || taken != 1 {
		t.Errorf("an episode that was shipped at once, taken %d times: %v", taken, err)
	}
}
