package export

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cis490/internal/dictionary"
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
	s   string
}

func str(s string) cell    { return cell{set: s != "", s: s} }
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
	path    []int // of struct fields
	kind    kind
	counter int // the column with its rate, or -1
}

// level is a table whose rows are read from rows of JSON: the rows themselves, or the elements
// of one of their lists.
type level struct {
	table  *table
	list   []int // path of the list; nil: the row itself
	leaves []leaf
	ids    []int // leaves that identify an element, among counters of other elements
}

// format reads the rows of one file into the rows of its tables.
type format struct {
	goes   reflect.Type // into which a row is decoded
	levels []level
	mono   []int // path of t_mono_ns
	wall   []int // path of t_wall_ns
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

// tree is the dictionary's keys as a tree.
type tree struct {
	key      dictionary.Key
	name     string
	children []*tree
}

func (t *tree) add(k dictionary.Key, path []string) {
	if len(path) == 0 {
		t.key = k
		return
	}
	i := slices.IndexFunc(t.children, func(c *tree) bool { return c.name == path[0] })
	if i < 0 {
		i = len(t.children)
		t.children = append(t.children, &tree{name: path[0]})
	}
	t.children[i].add(k, path[1:])
}

// formatOf returns the format of a file's rows. Tables are named after the file's source,
// and those of lists after both.
func formatOf(f dictionary.File, name string) *format {
	root := &tree{}
	for _, k := range f.Keys {
		root.add(k, strings.Split(strings.ReplaceAll(k.Name, "[]", ""), "."))
	}
	out := &format{goes: root.goType()}
	top := &table{name: name, about: f.Text, columns: joined()}
	out.levels = []level{{table: top}}
	out.walk(root, nil, "", 0)
	for i := range out.levels {
		out.levels[i].addRates()
	}
	return out
}

// goType returns a struct that encoding/json fills; pointers tell an absent value from 0.
func (t *tree) goType() reflect.Type {
	fields := make([]reflect.StructField, len(t.children))
	for i, c := range t.children {
		fields[i] = reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: c.fieldType(), Tag: reflect.StructTag(fmt.Sprintf(`json:"%s"`, c.name)),
		}
	}
	return reflect.StructOf(fields)
}

func (t *tree) fieldType() reflect.Type {
	switch t.key.Type {
	case dictionary.List:
		return reflect.SliceOf(t.goType())
	case dictionary.Object:
		return reflect.PointerTo(t.goType())
	case dictionary.Integer:
		return reflect.TypeFor[*int64]()
	case dictionary.Number:
		return reflect.TypeFor[*float64]()
	case dictionary.Boolean:
		return reflect.TypeFor[*bool]()
	}
	return reflect.TypeFor[*string]()
}

// walk adds the tree's leaves to a level, and a level for each of its lists.
func (f *format) walk(t *tree, path []int, prefix string, at int) {
	for i, c := range t.children {
		here := append(slices.Clone(path), i)
		switch c.key.Type {
		case dictionary.List:
			// Its rows carry the times of the row they are in.
			l := level{list: here, table: &table{
				name: f.levels[0].table.name + "_" + prefix + c.name, about: c.key.Text,
				columns: append(joined(), column{name: "t_wall_ns", unit: "ns", kind: integer}, column{name: "t_mono_ns", unit: "ns", kind: integer}),
			}}
			f.levels = append(f.levels, l)
			f.walk(c, nil, "", len(f.levels)-1)
		case dictionary.Object:
			f.walk(c, here, prefix+c.name+"_", at)
		default:
			f.leaf(c, here, prefix, at)
		}
	}
}

func (f *format) leaf(c *tree, path []int, prefix string, at int) {
	l := &f.levels[at]
	if at == 0 && c.name == "t_mono_ns" {
		f.mono = path
	}
	if at == 0 && c.name == "t_wall_ns" {
		f.wall = path
	}
	name := prefix + c.name
	if at == 0 && (name == "phase" || name == "class") {
		return // a label's own, which the join gives too
	}
	k := integer
	switch c.key.Type {
	case dictionary.Number:
		k = number
	case dictionary.Boolean:
		k = boolean
	case dictionary.String, dictionary.Time:
		k = text
	}
	found := leaf{path: path, kind: k, counter: -1}
	if c.key.Kind == dictionary.Counter {
		found.counter = 0 // set by addRates
	}
	if at > 0 && (name == "pid" || name == "start_ticks" || name == "device") {
		l.ids = append(l.ids, len(l.leaves))
	}
	l.leaves = append(l.leaves, found)
	l.table.columns = append(l.table.columns, column{name: name, unit: c.key.Unit, about: c.key.Text, kind: k, repeats: k == text})
}

// addRates adds a column with the rate of each counter.
func (l *level) addRates() {
	first := len(l.table.columns) - len(l.leaves)
	for i := range l.leaves {
		if l.leaves[i].counter < 0 {
			continue
		}
		c := l.table.columns[first+i]
		l.leaves[i].counter = len(l.table.columns)
		l.table.columns = append(l.table.columns, column{
			name: c.name + "_per_s", unit: c.unit + "/s", kind: number,
			about: "growth of " + c.name + " since the row before, per second; none in the first row",
		})
	}
}
