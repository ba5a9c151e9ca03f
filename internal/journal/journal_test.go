package journal_test

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"cis490/internal/journal"
)

type entry struct {
	message string
	p       systemd.Priority
	fields  map[string]string
}

func TestHandler_SendsLevelsAndFields(t *testing.T) {
	var got []entry
	var stderr bytes.Buffer
	hide := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("secret"), []byte("…")) }
	log := slog.New(journal.New(slog.LevelInfo, hide, &stderr, func(m string, p systemd.Priority, f map[string]string) error {
		got = append(got, entry{m, p, f})
		return nil
	}))
	host := log.With("host", "lab-07")
	log.Debug("below the level")
	host.Info("ping", "n", 3)
	host.Warn("not shipped", "err", errors.New("a secret"), "is_it", true)
	log.Error("over")
	want := []entry{
		{"level=INFO msg=ping host=lab-07 n=3", 6, map[string]string{"CIS490_HOST": "lab-07", "CIS490_N": "3"}},
		{
			`level=WARN msg="not shipped" host=lab-07 err="a …" is_it=true`, 4,
			map[string]string{"CIS490_HOST": "lab-07", "CIS490_ERR": "a …", "CIS490_IS_IT": "true"},
		},
		{"level=ERROR msg=over", 3, nil},
	}
	if len(got) != len(want) || stderr.Len() > 0 {
		t.Fatalf("%d entries, and on standard error %q", len(got), &stderr)
	}
	for i, w := range want {
		if g := got[i]; g.message != w.message || g.p != w.p || !maps.Equal(g.fields, w.fields) {
			t.Errorf("entry %d is %+v, want %+v", i, g, w)
		}
	}
}

// TestHandler_WritesPrefixedLines: without a journal to send to, or when it fails,
// standard error gets the line with its priority.
func TestHandler_WritesPrefixedLines(t *testing.T) {
	same := func(b []byte) []byte { return b }
	fails := func(string, systemd.Priority, map[string]string) error { return errors.New("gone") }
	for name, send := range map[string]journal.Send{"none": nil, "it fails": fails} {
		var stderr bytes.Buffer
		slog.New(journal.New(slog.LevelInfo, same, &stderr, send)).Warn("a\nb", "x", 1)
		if got, want := stderr.String(), "<4>level=WARN msg=\"a\\nb\" x=1\n"; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
