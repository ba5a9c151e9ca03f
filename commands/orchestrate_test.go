package commands

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"cis490/assets"
	"cis490/internal/fault"
	"cis490/internal/manifest"
)

func TestReleaseExperiment(t *testing.T) {
	dir := t.TempDir()
	own, err := releaseExperiment(dir)
	if err != nil || own.Name != "everyday-loads" {
		t.Errorf("without a file: %q, %v", own.Name, err)
	}
	path := filepath.Join(dir, manifest.ExperimentFile)
	brought := bytes.Replace(assets.Experiment(), []byte("everyday-loads"), []byte("brought-along"), 1)
	if err := os.WriteFile(path, brought, 0o644); err != nil {
		t.Fatal(err)
	}
	if e, err := releaseExperiment(dir); err != nil || e.Name != "brought-along" || e.Digest == own.Digest {
		t.Errorf("beside the binary: %q, %v", e.Name, err)
	}
	// A damaged experiment of a release is not replaced by another one.
	if err := os.WriteFile(path, brought[:len(brought)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if e, err := releaseExperiment(dir); fault.CodeOf(err) != fault.Config {
		t.Errorf("half a file: %q, %v", e.Name, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if e, err := releaseExperiment(dir); fault.CodeOf(err) != fault.Config {
		t.Errorf("a file that cannot be read: %q, %v", e.Name, err)
	}
}
