package update_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cis490/install/update"
)

// TestSelfTest_KeepsTheEndOfEndlessOutput: the output of a broken build does not fill the
// memory of the updater.
func TestSelfTest_KeepsTheEndOfEndlessOutput(t *testing.T) {
	build := filepath.Join(t.TempDir(), "cis490")
	script := "#!/bin/sh\nhead -c 96M /dev/zero\nhead -c 96M /dev/zero >&2\necho the end >&2\nexit 1\n"
	if err := os.WriteFile(build, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var s update.System
	_, err := s.SelfTest(t.Context(), build)
	if err == nil || !strings.HasSuffix(err.Error(), "the end") || len(err.Error()) > 1000 {
		t.Errorf("it says %.1000q", err)
	}
	runtime.ReadMemStats(&now)
	// All that was ever allocated, so that the time of garbage collection does not matter.
	if used := now.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("it allocated %d MiB for 192 MiB of output", used>>20)
	}
}

// TestConverge_ReturnsWhatTheInstallChanged: of every role, from the lines that it prints.
func TestConverge_ReturnsWhatTheInstallChanged(t *testing.T) {
	build := filepath.Join(t.TempDir(), "cis490")
	script := "#!/bin/sh\necho \"ok       users\nchanged  services: started $2.service, which was not running\n$2: 1 changed\"\n"
	if err := os.WriteFile(build, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }() // only passed on
	s := update.System{Lock: lock, Roles: []string{"a", "b"}}
	got, err := s.Converge(t.Context(), build)
	want := []string{"services: started a.service, which was not running", "services: started b.service, which was not running"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
