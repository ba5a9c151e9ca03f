package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clockFile holds the offset of a host's wall clock, in seconds. All hosts of a lab share
// the machine's clock; only programs built with OwnClock add the offset. Time since boot
// and file times do not change.
const clockFile = "/etc/lab-clock"

// clockSource is added to package time. A goroutine reads the file ten times a second:
// the scheduler calls time.Now too, and must not make system calls.
const clockSource = `package time

import "sync/atomic"

var labOffset atomic.Int64

var _ = labFollow() // before the first call of Now

func labFollow() bool {
	labRead()
	go func() {
		for {
			Sleep(100 * Millisecond)
			labRead()
		}
	}()
	return true
}

func labRead() {
	off := int64(0)
	if fd, err := open("` + clockFile + `"); err == nil {
		b := make([]byte, 20)
		n, _ := read(fd, b)
		closefd(fd)
		for _, c := range b[:max(n, 0)] {
			if c >= '0' && c <= '9' {
				off = off*10 + int64(c-'0')
			}
		}
		if n > 0 && b[0] == '-' {
			off = -off
		}
	}
	labOffset.Store(off)
}
`

// OwnClock returns the flag for BinaryWith that makes the program use its host's clock.
func OwnClock(tb testing.TB) string {
	tb.Helper()
	overlay, err := clockOverlay()
	if err != nil {
		tb.Fatalf("lab: build the clock: %v", err)
	}
	return "-overlay=" + overlay
}

// clockOverlay writes a changed copy of package time and the overlay file for go build.
// The folder is named after its content and stays in the cache.
func clockOverlay() (string, error) {
	goroot, err := output(".", "go", "env", "GOROOT")
	if err != nil {
		return "", err
	}
	original := filepath.Join(goroot, "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", fmt.Errorf("read the package time: %w", err)
	}
	const now, read = "\nfunc Now() Time {\n", "\tsec, nsec, mono := runtimeNow()\n"
	changed := strings.Replace(string(source), now+read, now+read+"\tsec += labOffset.Load()\n", 1)
	if changed == string(source) {
		return "", errors.New("cannot change time.Now: its source differs from what this lab expects")
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(changed + clockSource))
	dir := filepath.Join(cache, "clock-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	overlay := map[string]map[string]string{"Replace": {}}
	// go build takes one overlay: add to that of the environment (make incidents-off).
	if _, given, ok := strings.Cut(os.Getenv("GOFLAGS"), "-overlay="); ok {
		given, _, _ = strings.Cut(given, " ")
		b, err := os.ReadFile(given)
		if err == nil {
			err = json.Unmarshal(b, &overlay)
		}
		if err != nil {
			return "", fmt.Errorf("read the overlay of GOFLAGS: %w", err)
		}
	}
	overlay["Replace"][original] = filepath.Join(dir, "time.go")
	overlay["Replace"][filepath.Join(goroot, "src", "time", "lab.go")] = filepath.Join(dir, "lab.go")
	all, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	sum = sha256.Sum256(all)
	list := "overlay-" + hex.EncodeToString(sum[:6]) + ".json"
	for name, content := range map[string]string{"time.go": changed, "lab.go": clockSource, list: string(all)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, list), nil
}

// StepClock sets how far the host's wall clock is ahead of this machine's (negative:
// behind), for programs built with OwnClock. The host may be off.
func (h *Host) StepClock(off time.Duration) {
	h.lab.tb.Helper()
	h.Write(clockFile, fmt.Sprintln(int64(off/time.Second)), 0o644)
}
