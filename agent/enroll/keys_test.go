package enroll_test

import (
	"os"
	"path/filepath"
	"testing"

	"cis490/agent/enroll"
	"cis490/internal/wire"
)

// TestTakeKeys: a host that was enrolled before there were release keys installs them at
// its next run; existing keys are never replaced.
func TestTakeKeys(t *testing.T) {
	l := newLab(t)
	l.peer.alter = func(a *wire.CertAnswer) { a.ReleaseKeys = nil }
	l.join(secret)
	l.must(false, enroll.Enrolled)
	keys := filepath.Join(l.dir, enroll.ReleaseKeysFile)
	l.must(false, enroll.Nothing)
	if _, err := os.Lstat(keys); err == nil {
		t.Fatal("keys out of nothing")
	}
	for _, round := range []string{"key-one", "key-two"} {
		l.peer.mu.Lock()
		l.peer.keys = []string{round}
		l.peer.mu.Unlock()
		l.must(false, enroll.Nothing)
		if got := l.file(enroll.ReleaseKeysFile); got != "key-one\n" {
			t.Errorf("the authority has %s, the host has %q", round, got)
		}
	}
	if !l.works() {
		t.Error("the credentials do not work")
	}
}
