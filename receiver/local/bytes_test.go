package local_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/store"
)

// older is what version 1 of each log has; a rollback must be able to read what is
// written today, and today's version what is there.
func older() map[string]string {
	digest, commit := strings.Repeat("ab", 32), strings.Repeat("c", 40)
	return map[string]string{
		local.IndexFile: `{"v":1,"received_at":"2026-03-01T12:00:00.5Z","host":"lab-01","episode":"01ARZ3NDEKTSV4RRFFQ69G5FAV",` +
			`"sha256":"` + digest +
			`","size":7,"commit":"` + commit + `"}` + "\n" +
			`{"v":1,"received_at":"2026-03-01T12:00:00.500000001Z","host":"lab-01","episode":"01ARZ3NDEKTSV4RRFFQ69G5FAV","sha256":"` + digest +
			`","size":7,"archived":true,"clock":"2026-03-01T11:00:00Z"}` + "\n",
		local.RejectionsFile: `{"v":1,"at":"2026-03-01T12:00:00.5Z","host":"lab-01","proven":true,"route":"episode","status":412,` +
			`"kind":"","count":1,` +
			`"first":"2026-03-01T12:00:00Z","last":"2026-03-01T12:00:00Z"}` + "\n",
		local.AlertsFile: `{"v":1,"at":"2026-03-01T12:00:00Z","state":"open","hour":"2026-03-01T12:00:00Z",` +
			`"open":[{"host":"lab-01","symptom":"silent","since":"2026-03-01T11:00:00Z"}]}` + "\n" +
			`{"v":1,"at":"2026-03-01T12:00:00Z","host":"lab-01","symptom":"silent","state":"firing","since":"2026-03-01T11:00:00Z",` +
			`"hour":"2026-03-01T12:00:00Z","reason_code":"nothing"}` + "\n",
		local.SilencesFile: `{"v":1,"at":"2026-03-01T12:00:00.5Z","host":"lab-01","symptom":"silent","comment":"moved"}` + "\n",
	}
}

// TestBytes_AreThoseOfTheVersionsBefore reads rows of before and writes them again: byte
// by byte the same.
func TestBytes_AreThoseOfTheVersionsBefore(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, text := range older() {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 500_000_000, time.UTC)
	a := local.Open(local.Options{FS: disk.OS{}, Dir: from})
	b := local.Open(local.Options{FS: disk.OS{}, Dir: to, Now: func() time.Time { return now }})
	entries := read(t, a.Index)
	again(t, b.Index, entries[:1])
	now = now.Add(-time.Hour).Truncate(time.Second) // the clock was set back before the second
	again(t, b.Index, entries[1:])
	now = time.Date(2026, 3, 1, 12, 0, 0, 500_000_000, time.UTC)
	again(t, b.Rejections, read(t, a.Rejections))
	again(t, b.Alerts, read(t, a.Alerts))
	again(t, b.Silences, read(t, a.Silences))
	for name, want := range older() {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
}

func read[T any](t *testing.T, l receiver.Log[T]) (all []T) {
	t.Helper()
	for row, err := range l.Since(time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func again[T any](t *testing.T, l receiver.Log[T], rows []T) {
	t.Helper()
	if len(rows) == 0 {
		t.Fatal("no row was read")
	}
	if err := l.Append(rows); err != nil {
		t.Fatal(err)
	}
}

// TestBytes_FilesOfADataFolder: the names that a version before looks for.
func TestBytes_FilesOfADataFolder(t *testing.T) {
	dir := t.TempDir()
	b := local.Open(local.Options{FS: disk.OS{}, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	s, err := b.Serve()
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{
		receiver.ContactsDoc, receiver.FleetCheckDoc, receiver.NotifyDoc, receiver.BackupDoc, receiver.HealthReports + "lab-01.json",
	} {
		if err := b.Docs.Save(doc, []byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{
		disk.LockName, store.ArchivedDir, "contacts.json", "episodes", "fleet-check.json", "host-health", "index.jsonl",
		"last-backup.json", "notify.json",
		"rejections.jsonl", "staged", "store_id",
	}
	if !slices.Equal(got, want) {
		t.Errorf("files %q\n want %q", got, want)
	}
	for name, perm := range map[string]os.FileMode{
		"contacts.json": 0o640, "fleet-check.json": 0o644, "last-backup.json": 0o644, "index.jsonl": 0o640,
	} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != perm {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}
