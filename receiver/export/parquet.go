package export

import (
	"encoding/json"
	"io"

	"github.com/parquet-go/parquet-go"

	"cis490/internal/dictionary"
)

const (
	// groupRows is the number of rows after which a row group ends, at the end of an episode.
	groupRows = 64 << 10
	// passRows is how many rows are passed to the writer at once, at least. Few rows wait.
	passRows = 64
)

// ordered is a group whose fields keep the table's order.
type ordered struct {
	parquet.Group
	columns []column
}

// Fields returns the columns in the table's order.
func (o ordered) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.columns))
	for i, c := range o.columns {
		fields[i] = byName[c.name]
	}
	return fields
}

// parquetRows passes values to the writer by column, as it stores them.
type parquetRows struct {
	table   *table
	w       *parquet.GenericWriter[any]
	pending []cell // of rows, fewer than passRows
	values  []parquet.Value
	group   int
}

func newParquet(w io.Writer, t *table) *parquetRows {
	group := parquet.Group{}
	type about struct {
		Unit        string `json:"unit,omitempty"`
		Description string `json:"description,omitempty"`
	}
	columns := map[string]about{}
	for _, c := range t.columns {
		node := parquet.Int(64)
		switch c.kind {
		case number:
			node = parquet.Leaf(parquet.DoubleType)
		case text:
			node = parquet.String()
		case boolean:
			node = parquet.Leaf(parquet.BooleanType)
		}
		if c.repeats {
			node = parquet.Encoded(node, &parquet.RLEDictionary)
		}
		group[c.name] = parquet.Optional(parquet.Compressed(node, &parquet.Zstd))
		columns[c.name] = about{c.unit, c.about}
	}
	described, _ := json.Marshal(columns) // strings only
	version, _ := json.Marshal(dictionary.Version)
	p := &parquetRows{table: t}
	p.w = parquet.NewGenericWriter[any](w, parquet.NewSchema(t.name, ordered{group, t.columns}),
		parquet.CreatedBy("cis490", "1", ""), parquet.DataPageStatistics(true), parquet.PageBufferSize(64<<10),
		parquet.KeyValueMetadata("cis490.table", t.about), parquet.KeyValueMetadata("cis490.columns", string(described)),
		parquet.KeyValueMetadata("cis490.dictionary_version", string(version)))
	return p
}

func (p *parquetRows) write(cells []cell) error {
	width := len(p.table.columns)
	p.group += len(cells) / width
	if len(p.pending) > 0 || len(cells) < passRows*width {
		p.pending = append(p.pending, cells...)
		if len(p.pending) < passRows*width {
			return nil
		}
		return p.pass()
	}
	return p.columns(cells)
}

// pass passes the rows that wait.
func (p *parquetRows) pass() error {
	err := p.columns(p.pending)
	p.pending = p.pending[:0]
	return err
}

func (p *parquetRows) columns(cells []cell) error {
	width := len(p.table.columns)
	for i, w := range p.w.ColumnWriters() {
		p.values = p.values[:0]
		kind := p.table.columns[i].kind
		for at := i; at < len(cells); at += width {
			p.values = append(p.values, cells[at].value(kind, i))
		}
		if len(p.values) > 0 {
			if _, err := w.WriteRowValues(p.values); err != nil {
				return err
			}
		}
	}
	return nil
}

// value returns a cell of a column.
func (c *cell) value(k kind, column int) parquet.Value {
	switch {
	case !c.set:
		return parquet.NullValue().Level(0, 0, column)
	case k == number:
		return parquet.DoubleValue(c.f).Level(0, 1, column)
	case k == text:
		return parquet.ByteArrayValue(c.s).Level(0, 1, column)
	case k == boolean:
		return parquet.BooleanValue(c.truth()).Level(0, 1, column)
	}
	return parquet.Int64Value(c.i).Level(0, 1, column)
}

func (p *parquetRows) episode() error {
	if p.group < groupRows {
		return nil
	}
	p.group = 0
	if err := p.pass(); err != nil {
		return err
	}
	return p.w.Flush()
}

// Close ends the file.
func (p *parquetRows) Close() error {
	if err := p.pass(); err != nil {
		return err
	}
	return p.w.Close()
}
