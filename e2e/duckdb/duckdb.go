// Package duckdb reads exported tables with DuckDB, a reader of Parquet that is not ours.
// npm fetches it once into the user's cache.
package duckdb

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// version is the version of @duckdb/node-api.
const version = "1.5.6-r.1"

const script = `
import { DuckDBInstance } from '@duckdb/node-api';
const db = await (await DuckDBInstance.create(':memory:')).connect();
const all = [];
for (const q of process.argv.slice(2)) all.push((await db.runAndReadAll(q)).getRowObjectsJson());
console.log(JSON.stringify(all));
`

// Query runs queries in a folder. It returns the rows of each, by column.
func Query(t testing.TB, dir string, queries ...string) (all [][]map[string]any) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(cache, "cis490-lab", "duckdb-"+version)
	if _, err := os.Stat(filepath.Join(home, "node_modules/@duckdb/node-api")); err != nil {
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		install := exec.Command("npm", "install", "--prefix", home, "--no-audit", "--no-fund", "@duckdb/node-api@"+version)
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
