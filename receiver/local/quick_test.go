package local

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/receiver"
)

var now = time.Date(2026, 3, 1, 0, 10, 0, 5, time.UTC)

// TestQuick_ReadsWhatDecodingReads, or leaves the row to it.
func TestQuick_ReadsWhatDecodingReads(t *testing.T) {
	full := receiver.Entry{
		V: 1, ReceivedAt: now, Digest: ident.Digest(strings.Repeat("ab", 32)), Host: "lab-01", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
		Size: 7, Commit: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	}
	bare, repaired, archived, behind := full, full, full, full
	bare.Commit, repaired.Repaired, archived.Archived, behind.Clock = "", true, true, now.Add(-time.Hour)
	took := 0
	var lines []string
	for _, r := range []receiver.Entry{full, bare, repaired, archived, behind} {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	lines = append(lines,
		strings.Replace(lines[0], `"v":1,`, `"v":2,`, 1),
		strings.Replace(lines[0], `"size"`, `"new":{"commit":"x","repaired":true},"size"`, 1),
		strings.Replace(lines[1], `"size"`, `"new":"\",\"commit\":\"x","size"`, 1),
		strings.Replace(lines[0], `"lab-01"`, `"LAB"`, 1),
		strings.Replace(lines[0], `"lab-01"`, `7`, 1),
		lines[0][:len(lines[0])-1], `{"v":1,"received_at":"`, `{"v":1,"received_at":"`+now.Format(time.RFC3339)+`","host":"lab-01`, "", "{}",
	)
	for _, line := range lines {
		got, ok := quickEntry(ledger.Row{At: now, Line: []byte(line)})
		if !ok {
			continue
		}
		took++
		var want receiver.Entry
		if err := json.Unmarshal([]byte(line), &want); err != nil || got != want { // the times are all in UTC
			t.Errorf("%s: %+v, decoding gives %+v, %v", line, got, want, err)
		}
	}
	if took != 5 {
		t.Errorf("took %d of the rows that this receiver writes, want 5", took)
	}
}
