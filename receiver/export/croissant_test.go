//go:build duckdb

package export_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"cis490/e2e/npm"
	"cis490/receiver/export"
)

// The description is JSON-LD with the shape of Croissant 1.0: a dataset with files that have
// an address, a type and a digest, and with records whose fields have a type and a source
// among these files.
func TestDuckDB_CroissantHasItsShape(t *testing.T) {
	const schema, croissant = "https://schema.org/", "http://mlcommons.org/croissant/"
	for _, format := range []export.Format{export.Parquet, export.WebDataset} {
		out := t.TempDir() + "/out"
		run(t, export.Options{Source: fleet(t), Out: out, Format: format})
		path, err := filepath.Abs(filepath.Join(out, "croissant.json"))
		if err != nil {
			t.Fatal(err)
		}
		all := npm.JSONLD(t, path)
		if len(all) != 1 {
			t.Fatalf("%d documents", len(all))
		}
		has := func(what string, node map[string]any, names ...string) {
			t.Helper()
			for _, name := range names {
				if values, ok := node[name].([]any); !ok || len(values) == 0 {
					t.Errorf("%s: %s %v has no %s", format, what, node["@id"], name)
				}
			}
		}
		nodes := func(node map[string]any, name string) (found []map[string]any) {
			values, _ := node[name].([]any)
			for _, v := range values {
				if n, ok := v.(map[string]any); ok {
					found = append(found, n)
				}
			}
			return found
		}
		is := func(node map[string]any, kind string) bool { return fmt.Sprint(node["@type"]) == "["+kind+"]" }
		set := all[0]
		has("the dataset", set, schema+"name", schema+"description", schema+"url", schema+"version", "http://purl.org/dc/terms/conformsTo")
		if !is(set, schema+"Dataset") {
			t.Errorf("%s: the document is %v", format, set["@type"])
		}
		files := map[any]bool{}
		for _, f := range nodes(set, schema+"distribution") {
			files[f["@id"]] = true
			if is(f, croissant+"FileSet") {
				has("a set", f, schema+"name", schema+"encodingFormat", croissant+"includes")
				continue
			}
			has("a file", f, schema+"name", schema+"contentUrl", schema+"encodingFormat", schema+"sha256")
			if !is(f, croissant+"FileObject") {
				t.Errorf("%s: %v is %v", format, f["@id"], f["@type"])
			}
		}
		fields := 0
		for _, r := range nodes(set, croissant+"recordSet") {
			has("a record", r, schema+"name", croissant+"field")
			for _, f := range nodes(r, croissant+"field") {
				fields++
				has("a field", f, schema+"name", schema+"description", croissant+"dataType", croissant+"source")
				for _, s := range nodes(f, croissant+"source") {
					for _, of := range nodes(s, croissant+"fileSet") {
						if !files[of["@id"]] {
							t.Errorf("%s: %v comes from %v, which is not distributed", format, f["@id"], of["@id"])
						}
					}
				}
			}
		}
		if len(files) == 0 || (format == export.Parquet) != (fields > 50) {
			t.Errorf("%s: %d files, %d fields", format, len(files), fields)
		}
	}
}
