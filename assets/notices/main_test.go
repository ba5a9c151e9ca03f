package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotices(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	golicense := write("go/LICENSE", "terms of Go")
	write("a/LICENSE.md", "terms of a")
	write("a/NOTICE", "notice of a")
	write("a/licenses/ftl.txt", "terms of a font")
	write("a/license.go", "package a")
	write("b/README.md", "no terms")
	list := func(modules ...module) *bytes.Buffer {
		var b bytes.Buffer
		for _, m := range modules {
			if err := json.NewEncoder(&b).Encode(struct{ Module module }{m}); err != nil {
				t.Fatal(err)
			}
		}
		b.WriteString(`{"ImportPath":"fmt"}`)
		return &b
	}
	a := module{Path: "x/a", Version: "v1", Dir: filepath.Join(dir, "a")}
	var out bytes.Buffer
	if err := notices(list(a, a, module{Path: "cis490", Main: true}), &out, golicense); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"terms of Go", "x/a v1", "terms of a\n", "notice of a", "terms of a font"} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q is there %d times", want, strings.Count(out.String(), want))
		}
	}
	if strings.Contains(out.String(), "package a") {
		t.Error("source is in the notices")
	}
	if err := notices(list(module{Path: "x/b", Dir: filepath.Join(dir, "b")}), &out, golicense); err == nil {
		t.Error("a module without a license")
	}
}
