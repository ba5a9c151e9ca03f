package npm

import (
	"encoding/json"
	"testing"
)

// DuckDB runs queries in a folder with DuckDB. It returns the rows of each, by column.
func DuckDB(t testing.TB, dir string, queries ...string) (all [][]map[string]any) {
	t.Helper()
	const script = `import { DuckDBInstance } from '@duckdb/node-api';
const db = await (await DuckDBInstance.create(':memory:')).connect();
const all = [];
for (const q of process.argv.slice(2)) all.push((await db.runAndReadAll(q)).getRowObjectsJson());
console.log(JSON.stringify(all));
`
	if err := json.Unmarshal(run(t, "@duckdb/node-api@1.5.6-r.1", script, dir, queries...), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// JSONLD expands a document of JSON-LD: all its names become IRIs, and a name without one is
// an error. Its files are at https://data.example/.
func JSONLD(t testing.TB, path string) (all []map[string]any) {
	t.Helper()
	const script = `import jsonld from 'jsonld';
import { readFileSync } from 'node:fs';
const document = JSON.parse(readFileSync(process.argv[2]));
const documentLoader = (url) => { throw new Error('the document needs ' + url); };
console.log(JSON.stringify(await jsonld.expand(document, { safe: true, documentLoader, base: 'https://data.example/' })));
`
	if err := json.Unmarshal(run(t, "jsonld@9.0.0", script, ".", path), &all); err != nil {
		t.Fatal(err)
	}
	return all
}
