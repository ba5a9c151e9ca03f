package commands

import (
	"fmt"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/term"

	"cis490/internal/plain"
)

// between is the number of spaces between columns.
const between = 2

// table prints rows in columns. head has their names, separated by tabs. The last cell of
// a row that has fewer takes the rest of its line. On a terminal that is too narrow, the
// columns marked with ~ are left out, the last first.
func (a *app) table(head string, fill func(row func(...any))) error {
	names := strings.Split(head, "\t")
	cells := [][]string{make([]string, len(names))}
	for i, name := range names {
		cells[0][i] = strings.TrimPrefix(name, "~")
	}
	fill(func(row ...any) {
		texts := make([]string, len(row))
		for i, c := range row {
			texts[i] = fmt.Sprint(c)
		}
		cells = append(cells, texts)
	})
	widths := make([]int, len(names))
	for _, row := range cells {
		for i := range row {
			if i+1 < len(row) || len(row) == len(names) {
				widths[i] = max(widths[i], utf8.RuneCountInString(row[i])+between)
			}
		}
	}
	_, columns := a.size()
	wide := -between
	for _, n := range widths {
		wide += n
	}
	w := tabwriter.NewWriter(a.env.Out, 0, 0, between, ' ', 0)
	left := make([]bool, len(names))
	for i := len(names) - 1; i >= 0 && wide > columns; i-- {
		if left[i] = strings.HasPrefix(names[i], "~"); left[i] {
			wide -= widths[i]
		}
	}
	for _, row := range cells {
		shown := row[:0]
		for i, text := range row {
			if !left[i] || i+1 == len(row) && len(row) < len(names) {
				shown = append(shown, text)
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(shown, "\t")) // Flush returns the error
	}
	return w.Flush()
}

// size returns the size of the terminal. Without one, everything fits.
func (a *app) size() (lines, columns int) {
	if a.lines > 0 {
		return a.lines, a.columns
	}
	if f, ok := plain.Below(a.env.Out).(*os.File); ok && a.terminal(f) {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			return h, w
		}
	}
	return math.MaxInt, math.MaxInt
}
