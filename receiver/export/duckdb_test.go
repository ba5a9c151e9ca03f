//go:build duckdb

package export_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cis490/receiver/export"
)

// duckDB is the version of @duckdb/node-api, a reader of Parquet that is not ours.
const duckDB = "1.5.6-r.1"

const script = `
import { DuckDBInstance } from '@duckdb/node-api';
const db = await (await DuckDBInstance.create(':memory:')).connect();
const all = [];
for (const q of process.argv.slice(2)) all.push((await db.runAndReadAll(q)).getRowObjectsJson());
console.log(JSON.stringify(all));
`

// query runs queries in a folder.
func query(t *testing.T, dir string, queries ...string) (all [][]map[string]any) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(cache, "cis490-lab", "duckdb-"+duckDB)
	if _, err := os.Stat(filepath.Join(home, "node_modules/@duckdb/node-api")); err != nil {
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		install := exec.Command("npm", "install", "--prefix", home, "--no-audit", "--no-fund", "@duckdb/node-api@"+duckDB)
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm install: %v\n%s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "query.mjs"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("node", append([]string{filepath.Join(home, "query.mjs")}, queries...)...)
	run.Dir = dir
	out, err := run.Output()
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil {
		t.Fatalf("node: %v\n%s", err, out)
	}
	return all
}

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
	for i, rows := range query(t, out, queries...) {
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
	for i, rows := range query(t, out, queries...) {
		if t.Logf("%s\n%v", queries[i], rows); len(rows) == 0 {
			t.Errorf("no rows: %s", queries[i])
		}
	}
	if len(queries) < 4 {
		t.Errorf("%d queries", len(queries))
	}
}
