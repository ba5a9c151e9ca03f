package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cis490/internal/ledger"
)

// TestRows_OfAFleetThatIsSick: with four symptoms on each of 2,000 hosts, each row
// is one that the ledger takes, and a run that is cut off in the rows that open
// the hour loses none of what was firing.
func TestRows_OfAFleetThatIsSick(t *testing.T) {
	var found []Finding
	for i := range 2000 {
		name := fmt.Sprintf("lab-%04d-%s", i, strings.Repeat("x", 54))
		for _, symptom := range []string{BacklogGrowing, DoctorFailing, Gone, StaleVersion} {
			found = append(found, Finding{Host: name, Symptom: symptom, Since: now.Add(time.Nanosecond)})
		}
	}
	first := State{Entries: map[Key]Entry{}}
	before, at := first.Next(now, found), now.Add(time.Hour)
	rows := first.Next(at, found)
	openings := 0
	for _, a := range rows {
		line, err := json.Marshal(a)
		if err != nil || len(line) >= ledger.MaxLine {
			t.Fatalf("a row of %d bytes, %v", len(line), err)
		}
		if a.State == opening {
			openings++
		}
	}
	for cut := range openings + 2 {
		dir := t.TempDir()
		appendRows(t, dir, before)
		appendRows(t, dir, rows[:cut])
		s := state(t, dir)
		if got := len(s.held()); got != len(found) {
			t.Errorf("%d of %d openings: %d fire, want %d", cut, openings, got, len(found))
		}
		appendRows(t, dir, s.Next(at.Add(time.Minute), found))
		s = state(t, dir)
		if again := s.Next(at.Add(2*time.Minute), found); len(again) > 0 || s.more > 0 {
			t.Errorf("%d of %d openings: %d rows are written again", cut, openings, len(again))
		}
		if got := len(s.held()); got != len(found) {
			t.Errorf("%d of %d openings: %d fire in the end, want %d", cut, openings, got, len(found))
		}
	}
}
