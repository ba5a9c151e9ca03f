package commands_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPipes: a pipe in the place of any file below data_dir, which the service's user can
// put there, does not block a command of root. A command that needs the file names it.
func TestPipes(t *testing.T) {
	for name, all := range map[string]struct {
		config string
		files  []string
		run    [][]string
	}{
		"receiver.toml": {
			"public_url = \"https://127.0.0.1:1\"\ndata_dir = %q\noperator_file = \"/nonexistent\"\n[authority]\ndir = %q\n",
			[]string{
				"contacts.json", "fleet-check.json", "alerts.jsonl", "silences.jsonl", "index.jsonl", "rejections.jsonl",
				"store_id", "last-backup.json",
				"releases/orders.jsonl", "releases/rollout.json", "releases/unsigned.json", "releases/signed/1.json", "releases/signed/1.json.minisig",
				"host-health/lab-01.json", "archived/lab-01", "episodes/lab-01/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst", "episodes/lab-01",
			},
			[][]string{
				{"status"},
				{"release", "list"},
				{"release", "promote", "--seq", "1"},
				{"release", "withdraw", "--seq", "1"},
				{"alerts", "list"},
				{"doctor"},
				{"archive", "--before", "2100-01-01", "--to", "OUT"},
				{"backup", "--to", "OUT/backup.tar.gz"},
				{"fleet-check"},
				{"episode", "show", "--role", "receiver", "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
				{"episode", "verify", "--role", "receiver", "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
			},
		},
		"lab-host.toml": {
			"host = \"lab-01\"\ndata_dir = %q\ncerts_dir = %q\n" +
				"[receiver]\nurl = \"https://127.0.0.1:1\"\n[authority]\nurl = \"https://127.0.0.1:1\"\n",
			[]string{
				"outbox/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst", "shipped/01ARZ3NDEKTSV4RRFFQ69G5FA1.tar.zst", "shipped/receipts.jsonl",
				"quarantine/01ARZ3NDEKTSV4RRFFQ69G5FA1/quarantine_reason.json", "quarantine/01ARZ3NDEKTSV4RRFFQ69G5FA1",
				"episodes/01ARZ3NDEKTSV4RRFFQ69G5FA1/meta.json", "episodes/01ARZ3NDEKTSV4RRFFQ69G5FA1/done.marker",
				"episodes/01ARZ3NDEKTSV4RRFFQ69G5FA1",
			},
			[][]string{
				{"status"},
				{"episode", "list"},
				{"episode", "show", "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
				{"episode", "verify", "01ARZ3NDEKTSV4RRFFQ69G5FA1"},
				{"doctor"},
			},
		},
	} {
		for _, file := range all.files {
			dir := t.TempDir()
			data, config, out := filepath.Join(dir, "data"), filepath.Join(dir, name), filepath.Join(dir, "out")
			err := errors.Join(
				os.MkdirAll(filepath.Dir(filepath.Join(data, file)), 0o755), os.MkdirAll(filepath.Join(data, "episodes"), 0o755),
				os.MkdirAll(filepath.Join(dir, "authority"), 0o755), os.MkdirAll(out, 0o755),
				os.WriteFile(filepath.Join(dir, "authority", "ca.key"), nil, 0o600), // for a backup
				os.WriteFile(config, fmt.Appendf(nil, all.config, data, filepath.Join(dir, "authority")), 0o644),
			)
			order := `{"at":"2026-03-01T12:00:00Z","order":"publish","seq":1}` + "\n"
			if path := filepath.Join(data, "releases/orders.jsonl"); strings.HasPrefix(file, "releases/signed") {
				err = errors.Join(err, os.WriteFile(path, []byte(order), 0o644))
			}
			old := time.Now().Add(-time.Hour) // for archive
			pipe := filepath.Join(data, file)
			if err := errors.Join(err, syscall.Mkfifo(pipe, 0o644), os.Chtimes(pipe, old, old)); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CIS490_CONFIG", config)
			for _, args := range all.run {
				line := strings.Split(strings.ReplaceAll(strings.Join(args, " "), "OUT", out), " ")
				out, said, code := run(t, line...)
				looks := args[0] == "status" || slices.Equal(args, []string{"release", "list"}) || args[0] == "archive"
				if code == 64 || code == 78 || looks && code != 0 && !strings.Contains(out+said, file) && !strings.Contains(out+said, "lab-01") {
					t.Errorf("%s: %v: exit code %d: %s%s", file, line, code, out, said)
				}
			}
		}
	}
}
