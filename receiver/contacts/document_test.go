package contacts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"cis490/internal/check"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/contacts"
)

type aggregate struct {
	Hosts      []contacts.Snapshot `json:"hosts"`
	Unreadable []string            `json:"unreadable"`
}

// FuzzReport: whatever a host sends is refused, or the document of all hosts stays
// one that a strict reader takes.
func FuzzReport(f *testing.F) {
	f.Add(
		[]byte(
			`{"schema":"cis490.doctor/1","host":"\u202e","at":"2026-01-01T00:00:00+02:00","checks":[{"id":"a.b","status":"pass",` +
				`"detail":"<\u0000\ud800"}]}`,
		),
	)
	f.Add([]byte(`{"x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`))
	f.Add([]byte("{\"host\":\"\xff\"}"))
	dir := f.TempDir()
	s := contacts.NewSnapshots(backend(dir).Docs)
	if _, err := s.Put("lab-00", time.Now(), check.Report{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r check.Report
		if len(b) > wire.MaxSnapshot || wire.Decode(b, &r) != nil {
			return
		}
		if _, err := s.Put("lab-01", time.Now(), r); err != nil {
			t.Fatal(err)
		}
		text, all := list(t, s)
		if len(all.Hosts) != 2 || len(all.Unreadable) > 0 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x7f\x1b\u202e\u2028") {
			t.Errorf("%q leads to %q", b, text)
		}
	})
}

func list(t *testing.T, s *contacts.Snapshots) (string, aggregate) {
	t.Helper()
	_, write, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := write(&text); err != nil {
		t.Fatal(err)
	}
	var all aggregate
	if err := wire.Decode([]byte(text.String()), &all); err != nil {
		t.Errorf("%v: %.200q", err, text.String())
	}
	return text.String(), all
}

// TestSnapshots_OfAnOlderReceiver kept what its hosts sent: such a file is named, and
// hides no other.
func TestSnapshots_OfAnOlderReceiver(t *testing.T) {
	frame := func(snapshot string) string {
		return `{"host":"lab-01","received_at":"2026-01-01T00:00:00Z","snapshot":` + snapshot + `}` + "\n"
	}
	for name, content := range map[string]string{
		"deep":         frame(`{"x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`),
		"not UTF-8":    frame("{\"host\":\"\xff\"}"),
		"bidi":         frame("{\"host\":\"\u202e\"}"),
		"a key twice":  frame(`{"host":"a","host":"b"}`),
		"not a report": frame(`[]`),
		"cut":          frame(`{}`)[:20],
	} {
		dir := t.TempDir()
		s := contacts.NewSnapshots(backend(dir).Docs)
		if _, err := s.Put("lab-02", time.Now(), check.Report{Host: "lab-02"}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, receiver.HealthReports, "lab-01.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, all := list(t, s); len(all.Hosts) != 1 || all.Hosts[0].Host != "lab-02" || len(all.Unreadable) != 1 ||
			all.Unreadable[0] != "lab-01" {
			t.Errorf("%s: %+v", name, all)
		}
	}
}
