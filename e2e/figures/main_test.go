package main

import (
	"slices"
	"strings"
	"testing"
)

const run = `goos: linux
BenchmarkSmall/clients=1 1 726.4 req/s 0.97512 ratio
BenchmarkSmall/clients=1 1 1175 req/s 1.35 ratio
BenchmarkSmall 1 34.25 MiB-peak
BenchmarkSmallest/x-2   20   1500000 ns/op   3 rows
PASS
`

// TestFill makes tables of the named figures only, and says which the run lacks.
func TestFill(t *testing.T) {
	got, missing := fill("a\n<!-- figures Small -->\nold\n<!-- end -->\nb\n<!-- figures Smallest -->\n<!-- end -->\n"+
		"<!-- figures Gone -->\nkept\n<!-- end -->\n", parse(run))
	want := `a
<!-- figures Small -->
| Small | req/s | ratio | MiB-peak |
|---|---|---|---|
| clients=1 | 726, 1175 | 0.975, 1.35 |  |
| all |  |  | 34.2 |
<!-- end -->
b
<!-- figures Smallest -->
| Smallest | x |
|---|---|
| ms | 1.5 |
| rows | 3 |
<!-- end -->
<!-- figures Gone -->
kept
<!-- end -->
`
	if got != want || !slices.Equal(missing, []string{"Gone"}) {
		t.Errorf("missing %v:\n%s", missing, got)
	}
	if again, _ := fill(got, parse(run)); again != got || strings.Contains(again, "old") {
		t.Errorf("filled again:\n%s", again)
	}
}
