package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cis490/internal/config"
	"cis490/receiver/local"
)

// TestInstallScript_MadeOnce: anyone may ask for the script, so it is made once in half a
// minute, whether that fails or not.
func TestInstallScript_MadeOnce(t *testing.T) {
	conf := config.DefaultReceiver()
	conf.DataDir = t.TempDir()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	script := scriptCache(conf, "receiver.toml", func() time.Time { return now })
	dir := local.ReleasesDir(conf.DataDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	publish := func(digit string) {
		t.Helper()
		const form = `{"v":1,"artifacts":[{"os":"linux","arch":"amd64","version":"v1","sha256":"%s","size":1}]}`
		list := fmt.Sprintf(form, strings.Repeat(digit, 64))
		if err := os.WriteFile(filepath.Join(dir, "unsigned.json"), []byte(list), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(after time.Duration, made bool) string {
		t.Helper()
		now = now.Add(after)
		text, err := script()
		if (err == nil) != made || (text != "") != made {
			t.Fatalf("after %s: %q, %v", after, text, err)
		}
		return text
	}
	expect(0, false)
	publish("1")
	expect(scriptFresh-time.Second, false)
	first := expect(time.Second, true)
	publish("2")
	if expect(scriptFresh-time.Second, true) != first {
		t.Error("made again too soon")
	}
	if expect(time.Second, true) == first {
		t.Error("not made again")
	}
}
