package fleet

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/disk"
	"cis490/receiver/local"
)

// appendRows writes rows as a run does.
func appendRows(t *testing.T, dir string, rows []Alert) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, local.AlertsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range rows {
		if err := json.NewEncoder(f).Encode(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T, dir string) State {
	t.Helper()
	s, err := ReadState(onDisk(dir).Alerts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRows_KeepTheirRules runs random histories, in which runs are missed and
// cut off after any number of rows, and holds the file to the rules: for each
// host and symptom at most one firing and one resolved row an hour, the states
// alternating but for the hourly repeat; what is there in an hour's runs has a
// row in that hour; and what ended is resolved in the end.
func TestRows_KeepTheirRules(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		at := now
		present := map[Key]bool{}
		for range 150 {
			at = at.Add(time.Duration(1+rnd.IntN(7)) * time.Minute)
			if rnd.IntN(20) == 0 {
				at = at.Add(time.Duration(rnd.IntN(300)) * time.Minute) // switched off
			}
			for i := range 4 {
				if k := (Key{Host: fmt.Sprint("lab-", i), Symptom: Silent}); rnd.IntN(4) == 0 {
					present[k] = !present[k]
				}
			}
			s := state(t, dir)
			rows := s.Next(at, findings(present))
			if rnd.IntN(5) == 0 && len(rows) > 0 {
				rows = rows[:rnd.IntN(len(rows))] // a crash
			}
			appendRows(t, dir, rows)
			if got := state(t, dir); len(rows) == 0 && !got.Last.Equal(s.Last) && got.Last.After(at) {
				t.Fatalf("seed %d: the state ran ahead", seed)
			}
		}
		for range 2 { // all is well at last
			at = at.Add(time.Hour)
			s := state(t, dir)
			appendRows(t, dir, s.Next(at, nil))
		}
		held := state(t, dir)
		if left := held.held(); len(left) > 0 {
			t.Errorf("seed %d: not resolved: %v", seed, left)
		}
		inspect(t, seed, dir)
		if t.Failed() {
			return
		}
	}
}

func findings(present map[Key]bool) []Finding {
	var all []Finding
	for k, there := range present {
		if there {
			all = append(all, Finding{Host: k.Host, Symptom: k.Symptom, Since: now})
		}
	}
	return all
}

func inspect(t *testing.T, seed uint64, dir string) {
	t.Helper()
	perHour := map[string]int{}
	last := map[Key]string{}
	for a, err := range on(disk.OS{}, dir).Alerts.Since(time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if a.State == opening {
			continue
		}
		k := fmt.Sprint(a.Key(), a.State, a.Hour)
		if perHour[k]++; perHour[k] > 1 {
			t.Errorf("seed %d: %s twice in the hour of %s", seed, a.State, a.At)
		}
		if a.State == Resolved && last[a.Key()] != Firing {
			t.Errorf("seed %d: resolved at %s without having fired", seed, a.At)
		}
		last[a.Key()] = a.State
	}
}

// TestRows_OfAnHour pins the rows of a fault that comes and goes.
func TestRows_OfAnHour(t *testing.T) {
	dir := t.TempDir()
	hour := now.Truncate(time.Hour)
	x := []Finding{{Host: "lab-01", Symptom: Silent, Since: now}}
	for i, step := range []struct {
		min   int
		found []Finding
		want  string
	}{
		{5, nil, ""},
		{10, x, "open firing"},
		{15, x, ""}, // sustained: once an hour
		{20, nil, "resolved"},
		{25, x, ""}, // back within the hour: the row has to wait
		{30, nil, ""},
		{59, x, ""},
		{60, x, "open firing"},
		{65, x, ""},
		{120, x, "open firing"},
		{125, nil, "resolved"},
		{180, nil, ""},
		{185, x, "open firing"},
		{245, nil, "open resolved"},
		{250, x, "firing"}, // resolved and firing, once each
		{255, nil, ""},
		{300, nil, "open resolved"},
	} {
		s := state(t, dir)
		rows := s.Next(hour.Add(time.Duration(step.min)*time.Minute), step.found)
		got := ""
		for _, a := range rows {
			if got != "" {
				got += " "
			}
			got += a.State
		}
		if got != step.want {
			t.Errorf("step %d, minute %d: %q, want %q", i, step.min, got, step.want)
		}
		appendRows(t, dir, rows)
	}
}
