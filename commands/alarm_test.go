package commands_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cis490/commands"
	"cis490/internal/version"
)

// TestFleetCheck_DeliversWhatItCannotWrite: the notifications when the data folder fails in
// one way or another. The exit code is 0, because the command ran.
func TestFleetCheck_DeliversWhatItCannotWrite(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(data string) error
		want  string // symptoms of the first run, and of the second: nothing more
		beats int    // after both
	}{
		"alerts.jsonl is a folder": {func(data string) error { return os.Mkdir(filepath.Join(data, "alerts.jsonl"), 0o755) }, "data-broken", 2},
		"the last run is a folder": {func(data string) error {
			return os.Mkdir(filepath.Join(data, "fleet-check.json"), 0o755)
		}, "data-broken", 2},
		"the index is a folder":   {func(data string) error { return os.Mkdir(filepath.Join(data, "index.jsonl"), 0o755) }, "index-broken", 2},
		"the data folder is gone": {os.RemoveAll, "data-broken", 2},
		"the data folder is a file": {func(data string) error {
			if err := os.RemoveAll(data); err != nil {
				return err
			}
			return os.WriteFile(data, nil, 0o600)
		}, "data-broken", 2},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			heard, beats := []string{}, 0
			ear := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.URL.Path == "/beat" {
					beats++
					return
				}
				var m struct {
					Alerts []struct{ Host, Symptom, State string }
				}
				if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
					t.Error(err)
				}
				for _, a := range m.Alerts {
					if a.Host == "@receiver" && (a.Symptom == "data-broken" || a.Symptom == "index-broken") {
						heard = append(heard, a.Symptom)
					}
				}
			}))
			defer ear.Close()
			dir := t.TempDir()
			data, conf := filepath.Join(dir, "data"), filepath.Join(dir, "receiver.toml")
			for _, folder := range []string{data, filepath.Join(dir, "authority"), filepath.Join(dir, "spare")} {
				if err := os.Mkdir(folder, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			text := "public_url = \"https://127.0.0.1:1\"\ndata_dir = \"" + data + "\"\n[authority]\ndir = \"" + filepath.Join(dir, "authority") +
				"\"\n[notify]\nwebhook_url = \"" + ear.URL + "/hook\"\nheartbeat_url = \"" + ear.URL + "/beat\"\n"
			if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(data); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				var errOut bytes.Buffer
				env := commands.Env{In: strings.NewReader(""), Out: io.Discard, Err: &errOut, Build: version.Info{Version: "1"}}
				env.Getenv = func(key string) string {
					return map[string]string{"RUNTIME_DIRECTORY": filepath.Join(dir, "spare")}[key]
				}
				if code := commands.Main(t.Context(), []string{"cis490", "fleet-check", "--config", conf}, env); code != 0 {
					t.Errorf("exit code %d: %s", code, errOut.String())
				}
			}
			if got := strings.Join(heard, ", "); got != c.want || beats != c.beats {
				t.Errorf("told %q, want %q; %d beats", got, c.want, beats)
			}
		})
	}
}
