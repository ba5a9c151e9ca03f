package commands

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cis490/internal/check"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/manifest"
	"cis490/internal/wire"
	"cis490/receiver/fleet"
	"cis490/receiver/rollout"
)

// TestTable_FitsTheTerminal: a table that is too wide loses its optional columns, the last
// first, and no other.
func TestTable_FitsTheTerminal(t *testing.T) {
	t.Parallel()
	for columns, want := range map[int]string{
		80: "HOST    SINCE  STATE   VERSION\nlab-01  today  active  v1\nlab-02  a row with a long reason\n",
		29: "HOST    SINCE  STATE\nlab-01  today  active\nlab-02  a row with a long reason\n",
		20: "HOST    STATE\nlab-01  active\nlab-02  a row with a long reason\n",
		3:  "HOST    STATE\nlab-01  active\nlab-02  a row with a long reason\n",
	} {
		var out bytes.Buffer
		a := &app{env: Env{Out: &out}, lines: 24, columns: columns}
		err := a.table("HOST\t~SINCE\tSTATE\t~VERSION", func(row func(...any)) {
			row("lab-01", "today", "active", "v1")
			row("lab-02", "a row with a long reason")
		})
		if got := out.String(); err != nil || got != want {
			t.Errorf("%d columns: %v\n%s", columns, err, got)
		}
	}
}

// TestWaveTable_ReceiverHasNoCounts: the receiver's own trial is not among the counted ones.
func TestWaveTable_ReceiverHasNoCounts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{env: Env{Out: &out}, lines: 24, columns: 200}
	waves := rollout.Waves(manifest.Progress{Seq: 1, Stage: manifest.StageCanary}, []ident.Host{"lab-01"})
	if err := a.waveTable(waves); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(strings.Split(out.String(), "\n")[1]), " "); got != "receiver this receiver - - -" {
		t.Errorf("%q", got)
	}
}

// TestWaiting_HasItsAge: a host may have shipped since its last ping.
func TestWaiting_HasItsAge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		waiting int
		age     time.Duration
		want    string
	}{{0, time.Hour, "0"}, {11, 10 * time.Second, "11"}, {1100, 4 * time.Minute, "1,100, 4 min ago"}} {
		h := hostStatus{Queue: wire.Queue{Waiting: c.waiting}, Pinged: time.Now().Add(-c.age)}
		if got := h.waiting(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestTally_SaysWhatNeedsSudo(t *testing.T) {
	t.Parallel()
	rights := check.Row{Status: check.Skip, Detail: "open x: permission denied: " + machine.WithSudo}
	other := check.Row{Status: check.Skip, Detail: "not configured"}
	for want, rows := range map[string][]check.Row{
		"0 ok, 1 skipped":                  {other},
		"0 ok, 3 skipped (most need sudo)": {rights, other, rights},
		"0 ok, 2 skipped (some need sudo)": {rights, other},
	} {
		r := check.Report{Checks: rows}
		r.Summary.Skip = len(rows)
		if got := tally(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWatched_BeforeTheFirstRun(t *testing.T) {
	t.Parallel()
	if got := watched(fleet.Last{}); got != "fleet-check has not run yet: it runs every 5 minutes" {
		t.Error(got)
	}
}
