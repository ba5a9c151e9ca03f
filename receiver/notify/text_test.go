package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/receiver/fleet"
)

func TestReadURLs_AsWindowsSavesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(path, []byte("\ufeffntfy://a/b\r\n# c\r\ngeneric://d\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readURLs(path)
	if diff := cmp.Diff([]string{"ntfy://a/b", "generic://d"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestMessage_TimesOfAnAlert(t *testing.T) {
	a := resolved("lab-1", fleet.Silent)
	a.At = now.Add(time.Hour)
	_, text := Message{State: fleet.Resolved, Alerts: []fleet.Alert{a}}.words()
	if want := "lab-1 silent since 2026-03-01 10:00:00 UTC until 2026-03-01 11:00:00 UTC\n"; !strings.HasPrefix(text, want) {
		t.Errorf("%q, want %q", text, want)
	}
	_, text = Message{State: fleet.Firing, Alerts: []fleet.Alert{firing("lab-1", fleet.Silent, "nothing")}}.words()
	if strings.Contains(text, "until") {
		t.Errorf("an open alert has an end: %q", text)
	}
}
