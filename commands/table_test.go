package commands

import (
	"bytes"
	"testing"
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
