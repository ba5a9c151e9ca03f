package fleet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"cis490/receiver/index"
)

// TestQuick_ReadsWhatDecodingReads, or leaves the row to it.
func TestQuick_ReadsWhatDecodingReads(t *testing.T) {
	full := index.Row{V: 1, ReceivedAt: now, Host: "lab-01", Episode: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Size: 7, Commit: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
	bare, repaired, archived := full, full, full
	bare.Commit, repaired.Repaired, archived.Archived = "", true, true
	took := 0
	var lines []string
	for _, r := range []index.Row{full, bare, repaired, archived} {
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
		got, ok := quick([]byte(line))
		if !ok {
			continue
		}
		took++
		var want taken
		if err := json.Unmarshal([]byte(line), &want); err != nil || got != want {
			t.Errorf("%s: %+v, decoding gives %+v, %v", line, got, want, err)
		}
	}
	if took != 4 {
		t.Errorf("took %d of the rows that this receiver writes, want 4", took)
	}
}
