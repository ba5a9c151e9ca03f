//go:build duckdb

package export_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"cis490/e2e/npm"
	"cis490/receiver/export"
)

// DuckDB counts the same rows as the manifest, in every table and split.
func TestDuckDB_CountsWhatTheManifestCounts(t *testing.T) {
	out := t.TempDir() + "/out"
	m := run(t, export.Options{Source: fleet(t), Out: out, Format: export.Parquet, Split: export.Split{By: "host"}})
	var queries, want []string
	for split, c := range m.Splits {
		for table, n := range c.Rows {
			queries = append(queries, fmt.Sprintf("SELECT count(*) AS n FROM 'data/%s/%s-*.parquet'", split, table))
			want = append(want, fmt.Sprint(n))
		}
		for class, n := range c.Classes {
			queries = append(queries, fmt.Sprintf("SELECT count(*) AS n FROM 'data/%s/episodes-*.parquet' WHERE class = '%s'", split, class))
			want = append(want, fmt.Sprint(n))
		}
	}
	for i, rows := range npm.DuckDB(t, out, queries...) {
		if len(rows) != 1 || fmt.Sprint(rows[0]["n"]) != want[i] {
			t.Errorf("%s: %v, want %s", queries[i], rows, want[i])
		}
	}
	if len(queries) < 18 {
		t.Errorf("only %d tables", len(queries))
	}
}

// The queries of docs/data.md run, and find something.
func TestDuckDB_RunsTheQueriesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/data.md")
	if err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for q := range strings.SplitSeq(strings.TrimSpace(block[1]), ";") {
			if strings.TrimSpace(q) != "" {
				queries = append(queries, q)
			}
		}
	}
	out := t.TempDir() + "/out"
	run(t, export.Options{Source: fleet(t), Out: out, Format: export.Parquet, Split: export.Split{By: "host"}})
	for i, rows := range npm.DuckDB(t, out, queries...) {
		if t.Logf("%s\n%v", queries[i], rows); len(rows) == 0 {
			t.Errorf("no rows: %s", queries[i])
		}
	}
	if len(queries) < 4 {
		t.Errorf("%d queries", len(queries))
	}
}
