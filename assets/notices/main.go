// Command notices prints the licenses of the modules in a binary, which must accompany its
// copies:
//
//	go list -deps -json=Module . | go run ./assets/notices
//
// A module without a license file is an error.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is a module as go list prints it.
type module struct {
	Path, Version, Dir string
	Main               bool
}

func main() {
	var out bytes.Buffer
	if err := notices(os.Stdin, &out, filepath.Join(goroot(), "LICENSE")); err != nil {
		panic(err) // make stops
	}
	if _, err := out.WriteTo(os.Stdout); err != nil {
		panic(err)
	}
}

// goroot returns the folder of the Go toolchain: go run sets GOROOT.
func goroot() string { return os.Getenv("GOROOT") }

// notices writes each module's license files, sorted by module, after Go's own.
func notices(packages io.Reader, out io.Writer, golicense string) error {
	all := map[string]module{}
	for dec := json.NewDecoder(packages); ; {
		var p struct{ Module *module }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read go list: %w", err)
		}
		if p.Module != nil && !p.Module.Main {
			all[p.Module.Path] = *p.Module
		}
	}
	_, _ = fmt.Fprintf(out, "cis490 contains software of others, under the licenses below.\n")
	if err := section(out, "The Go standard library", golicense); err != nil {
		return err
	}
	for _, m := range sorted(all) {
		files, err := licenses(m.Dir)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("%s %s has no license file in %s: may it be distributed?", m.Path, m.Version, m.Dir)
		}
		if err := section(out, m.Path+" "+m.Version, files...); err != nil {
			return err
		}
	}
	return nil
}

func sorted(all map[string]module) []module {
	var list []module
	for _, m := range all {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// licenses returns a module's license files: at its top, and below for what it carries of
// others, such as fonts.
func licenses(dir string) ([]string, error) {
	name := regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright|ofl)([._-].*)?(\.(md|txt))?$`)
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		named := name.MatchString(d.Name()) || filepath.Base(filepath.Dir(path)) == "licenses" // LICENSE of freetype refers to it
		if err == nil && d.Type().IsRegular() && named && filepath.Ext(path) != ".go" {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

func section(out io.Writer, title string, files ...string) error {
	_, _ = fmt.Fprintf(out, "\n%s\n%s\n", strings.Repeat("=", 78), title)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%s\n%s:\n\n%s\n", strings.Repeat("-", 78), filepath.Base(f), bytes.TrimSpace(b))
	}
	return nil
}
