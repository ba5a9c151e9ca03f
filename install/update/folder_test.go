package update_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cis490/install/update"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

// TestFolder_WhatIsNoFile: an update of the receiver, which runs as root, does not block on
// a pipe that the owner of the releases puts among them, does not read an endless file, and
// names it.
func TestFolder_WhatIsNoFile(t *testing.T) {
	digest := ident.Digest(strings.Repeat("a", 64))
	const order = `{"at":"2026-03-01T12:00:00Z","order":"publish","seq":1}` + "\n"
	for what, plant := range map[string]func(path string) error{
		"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"hole": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<40)) },
	} {
		for _, name := range []string{"orders.jsonl", "rollout.json", "signed/1.json", "signed/1.json.minisig"} {
			dir := t.TempDir()
			err := errors.Join(
				os.Mkdir(filepath.Join(dir, "signed"), 0o755), os.WriteFile(filepath.Join(dir, "orders.jsonl"), []byte(order), 0o600),
				os.WriteFile(filepath.Join(dir, "signed/1.json"), []byte("{}"), 0o600), os.RemoveAll(filepath.Join(dir, name)),
			)
			if name == "rollout.json" { // read after the releases, of which there are none then
				err = errors.Join(err, os.Remove(filepath.Join(dir, "orders.jsonl")))
			}
			if err = errors.Join(err, plant(filepath.Join(dir, name))); err != nil {
				t.Fatal(err)
			}
			_, _, err = update.Folder{FS: disk.OS{}, Dir: dir, OS: "linux", Arch: "amd64"}.Look(context.Background(), "")
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
				t.Errorf("a %s in the place of %s: %v", what, name, err)
			}
		}
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "blobs"), 0o755), syscall.Mkfifo(manifest.BlobPath(dir, digest), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := (update.Folder{FS: disk.OS{}, Dir: dir}).Blob(t.Context(), digest, 0, false); err == nil ||
		!strings.Contains(err.Error(), string(digest)) {
		t.Errorf("a pipe as a binary: %v", err)
	}
}
