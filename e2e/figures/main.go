// Program figures writes a document's tables from a run of `make bench`, whose
// lines are those of Go benchmarks (golang.org/design/14313-benchmark-format). A table is what
// stands between the comments <!-- figures NAME --> and <!-- end -->.
package main

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := rewrite(os.Args[1], os.Args[2]); err != nil {
		panic(err) // make stops
	}
}

// rewrite replaces the tables of a document.
func rewrite(run, document string) error {
	lines, err := os.ReadFile(run)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	after, missing := fill(string(before), parse(string(lines)))
	if len(missing) > 0 {
		return fmt.Errorf("%s has no figures of %v: run 'make bench' whole", run, missing)
	}
	return os.WriteFile(document, []byte(after), 0o644)
}

// A figure is a value of a benchmark's case, in rounds.
type figure struct {
	name, unit string
	rounds     []string
}

var (
	block = regexp.MustCompile(`(?s)<!-- figures (\w+) -->\n.*?<!-- end -->`)
	procs = regexp.MustCompile(`-\d+$`) // GOMAXPROCS, which go test adds
)

// parse returns the figures of a run, in its order.
func parse(run string) (all []*figure) {
	for line := range strings.Lines(run) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := procs.ReplaceAllString(strings.TrimPrefix(f[0], "Benchmark"), "")
		for i := 2; i+1 < len(f); i += 2 {
			value, unit, ok := plain(f[i], f[i+1])
			if !ok {
				continue
			}
			at := slices.IndexFunc(all, func(a *figure) bool { return a.name == name && a.unit == unit })
			if at < 0 {
				at, all = len(all), append(all, &figure{name: name, unit: unit})
			}
			all[at].rounds = append(all[at].rounds, value)
		}
	}
	return all
}

// plain returns a value with three digits, and times in seconds or milliseconds. It reports
// false for a time that was not measured.
func plain(value, unit string) (string, string, bool) {
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || unit == "ns/op" && v == 0 {
		return "", "", false
	}
	switch {
	case unit == "ns/op" && v >= 1e9:
		v, unit = v/1e9, "s"
	case unit == "ns/op":
		v, unit = v/1e6, "ms"
	}
	switch {
	case v == 0:
		return "0", unit, true
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64), unit, true
	}
	return strconv.FormatFloat(v, 'g', 3, 64), unit, true
}

// fill returns the document with its tables replaced, and the names without figures.
func fill(document string, all []*figure) (after string, missing []string) {
	after = block.ReplaceAllStringFunc(document, func(old string) string {
		name := block.FindStringSubmatch(old)[1]
		var rows, units []string
		cells := map[[2]string]string{}
		for _, f := range all {
			row, ok := strings.CutPrefix(f.name, name)
			if !ok || row != "" && row[0] != '/' {
				continue
			}
			row = strings.TrimPrefix(row, "/")
			if !slices.Contains(rows, row) {
				rows = append(rows, row)
			}
			if !slices.Contains(units, f.unit) {
				units = append(units, f.unit)
			}
			cells[[2]string{row, f.unit}] = strings.Join(f.rounds, ", ")
		}
		if len(rows) == 0 {
			missing = append(missing, name)
			return old
		}
		return fmt.Sprintf("<!-- figures %s -->\n%s<!-- end -->", name, table(name, rows, units, cells))
	})
	return after, missing
}

// table returns a row for each case, or for each unit of a single case.
func table(name string, rows, units []string, cells map[[2]string]string) string {
	var b strings.Builder
	if len(rows) == 1 {
		_, _ = fmt.Fprintf(&b, "| %s | %s |\n|---|---|\n", name, cmp.Or(rows[0], "figure"))
		for _, unit := range units {
			_, _ = fmt.Fprintf(&b, "| %s | %s |\n", unit, cells[[2]string{rows[0], unit}])
		}
		return b.String()
	}
	_, _ = fmt.Fprintf(&b, "| %s | %s |\n|%s\n", name, strings.Join(units, " | "), strings.Repeat("---|", len(units)+1))
	for _, row := range rows {
		_, _ = fmt.Fprintf(&b, "| %s |", cmp.Or(row, "all"))
		for _, unit := range units {
			_, _ = fmt.Fprintf(&b, " %s |", cells[[2]string{row, unit}])
		}
		b.WriteString("\n")
	}
	return b.String()
}
