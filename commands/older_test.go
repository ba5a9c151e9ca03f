package commands_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestOlder_Forward opens the files of an older version: a receiver and a lab host, as
// write.sh leaves them, written by the version before receiver.Backend.
func TestOlder_Forward(t *testing.T) {
	t.Parallel()
	older(t, unpackOlder(t), "read.sh", "cis490")
}

// unpackOlder returns a folder with the files of the older version.
func unpackOlder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	archive, err := filepath.Abs("testdata/older/before-backend.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xzf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v\n%s", err, out)
	}
	return dir
}

// older runs a script of testdata/older in a folder, with this cis490.
func older(t *testing.T, dir, script, cis490 string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata/older", script))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", path)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CIS490="+cis490)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // the script kills its daemons
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s with %s: %v\n%s", script, cis490, err, out)
	}
}
