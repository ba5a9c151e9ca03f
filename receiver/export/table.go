package export

import (
	"strings"

	"cis490/internal/dictionary"
	"cis490/internal/episode"
)

// Before is the phase of rows before the first label. No experiment can name a phase so.
const Before = "_before"

// kind is the type of a column's values.
type kind uint8

const (
	integer kind = iota
	number
	text
	boolean
)

// column describes a column of a table.
type column struct {
	name, unit, about string
	kind              kind
	repeats           bool // few distinct values
}

// cell is a value. The column's kind selects the field that holds it.
type cell struct {
	set bool
	i   int64
	f   float64
	s   []byte // never changed
}

func str(s string) cell    { return cell{set: s != "", s: []byte(s)} }
func num(i int64) cell     { return cell{set: true, i: i} }
func real(f float64) cell  { return cell{set: true, f: f} }
func truth(b bool) cell    { return cell{set: true, i: map[bool]int64{true: 1}[b]} }
func (c cell) truth() bool { return c.i != 0 }

// table is a table of the export.
type table struct {
	name    string
	about   string
	columns []column
}

// leaf is a column that is read from a row of JSON.
type leaf struct {
	kind    kind
	counter bool // its rate is a column too
}

// level is a table whose rows are read from rows of JSON: the rows themselves, or the elements
// of one of their lists.
type level struct {
	table    *table
	leaves   []leaf
	ids      []int // leaves that identify an element, among counters of other elements
	first    int   // the column of the first leaf
	counters int   // leaves with a rate
}

// format says how the rows of one file become the rows of its tables.
type format struct {
	top    *node
	levels []level
	wall   int // the leaf of t_wall_ns
	mono   int // the leaf of t_mono_ns
}

// node is a key of a row of JSON.
type node struct {
	name     string
	kind     dictionary.Type
	level    int // of a list: that of its elements
	leaf     int // of a value: its place among the leaves of its level, or none
	children []*node
}

// none is the leaf of a value that is read and not used.
const none = -1

// child returns the member with a name. It is most likely the one after the last.
func (n *node) child(name []byte, last int) (*node, int) {
	for i := range n.children {
		if at := (last + 1 + i) % len(n.children); string(name) == n.children[at].name {
			return n.children[at], at
		}
	}
	return nil, last
}

// joined are the columns that begin every table of rows.
func joined() []column {
	return []column{
		{name: "episode", about: "id of the episode", kind: text, repeats: true},
		{name: "host", about: "the host that recorded", kind: text, repeats: true},
		{name: "profile", about: "the recorded profile", kind: text, repeats: true},
		{
			name: "phase", kind: text, repeats: true,
			about: "phase of the last label at or before the row; " + Before + " precedes the first label",
		},
		{
			name: "class", kind: text, repeats: true,
			about: "class of the phase; none before the first label, after a failure, and in episodes of version 1",
		},
	}
}

// formats are the formats of all files with rows, by the file's name.
type formats map[string]*format

func allFormats() formats {
	all := formats{}
	for _, f := range dictionary.Files() {
		if f.Rows {
			all[f.Name] = formatOf(f, strings.TrimSuffix(strings.TrimPrefix(f.Name, episode.TelemetryPrefix), ".jsonl"))
		}
	}
	return all
}

// tables returns all tables, the one of episodes first.
func (all formats) tables() []*table {
	tables := []*table{episodesTable()}
	for _, f := range dictionary.Files() {
		if format, ok := all[f.Name]; ok {
			for _, l := range format.levels {
				tables = append(tables, l.table)
			}
		}
	}
	return tables
}

// formatOf returns the format of a file's rows. Tables are named after the file's source,
// and those of lists after both. A list within a list would need a format of its own.
func formatOf(f dictionary.File, name string) *format {
	out := &format{top: &node{kind: dictionary.Object}, levels: []level{newLevel(name, f.Text, joined())}}
	for _, k := range f.Keys {
		at, level, prefix := out.top, 0, ""
		path := strings.Split(strings.ReplaceAll(k.Name, "[]", ""), ".")
		for _, member := range path[:len(path)-1] {
			if at, _ = at.child([]byte(member), none); at.kind == dictionary.List {
				level, prefix = at.level, ""
			} else {
				prefix += member + "_"
			}
		}
		n := &node{name: path[len(path)-1], kind: k.Type, leaf: none}
		at.children = append(at.children, n)
		switch k.Type {
		case dictionary.Object:
		case dictionary.List:
			// Its rows carry the times of the row they are in.
			times := []column{{name: "t_wall_ns", unit: "ns", kind: integer}, {name: "t_mono_ns", unit: "ns", kind: integer}}
			n.level = len(out.levels)
			out.levels = append(out.levels, newLevel(name+"_"+prefix+n.name, k.Text, append(joined(), times...)))
		default:
			out.leaf(n, k, level, prefix)
		}
	}
	for i := range out.levels {
		out.levels[i].addRates()
	}
	return out
}

func newLevel(name, about string, columns []column) level {
	return level{table: &table{name: name, about: about, columns: columns}, first: len(columns)}
}

func (f *format) leaf(n *node, k dictionary.Key, at int, prefix string) {
	l := &f.levels[at]
	name := prefix + n.name
	switch {
	case at == 0 && (name == "phase" || name == "class"):
		return // a label's own, which the join gives too
	case at == 0 && name == "t_wall_ns":
		f.wall = len(l.leaves)
	case at == 0 && name == "t_mono_ns":
		f.mono = len(l.leaves)
	case at > 0 && (name == "pid" || name == "start_ticks" || name == "device"):
		l.ids = append(l.ids, len(l.leaves))
	}
	of := integer
	switch k.Type {
	case dictionary.Number:
		of = number
	case dictionary.Boolean:
		of = boolean
	case dictionary.String, dictionary.Time:
		of = text
	}
	n.leaf = len(l.leaves)
	l.leaves = append(l.leaves, leaf{of, k.Kind == dictionary.Counter})
	l.table.columns = append(l.table.columns, column{name: name, unit: k.Unit, about: k.Text, kind: of, repeats: of == text})
}

// addRates adds a column with the rate of each counter.
func (l *level) addRates() {
	for i, leaf := range l.leaves {
		if !leaf.counter {
			continue
		}
		l.counters++
		c := l.table.columns[l.first+i]
		l.table.columns = append(l.table.columns, column{
			name: c.name + "_per_s", unit: c.unit + "/s", kind: number,
			about: "growth of " + c.name + " since the row before, per second; none in the first row",
		})
	}
}
