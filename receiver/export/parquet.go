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
	// writeRows is how many rows are passed to the writer at once.
	writeRows = 256
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

type parquetRows struct {
	table *table
	w     *parquet.GenericWriter[any]
	rows  []parquet.Row // not yet passed to the writer
	n     int
	group int
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
	p := &parquetRows{table: t, rows: make([]parquet.Row, writeRows)}
	for i := range p.rows {
		p.rows[i] = make(parquet.Row, len(t.columns))
	}
	p.w = parquet.NewGenericWriter[any](w, parquet.NewSchema(t.name, ordered{group, t.columns}),
		parquet.CreatedBy("cis490", "1", ""), parquet.DataPageStatistics(true), parquet.PageBufferSize(64<<10),
		parquet.KeyValueMetadata("cis490.table", t.about), parquet.KeyValueMetadata("cis490.columns", string(described)),
		parquet.KeyValueMetadata("cis490.dictionary_version", string(version)))
	return p
}

func (p *parquetRows) write(cells []cell) error {
	row := p.rows[p.n]
	for i, c := range cells {
		v := parquet.NullValue()
		level := 0
		if c.set {
			level = 1
			switch p.table.columns[i].kind {
			case number:
				v = parquet.DoubleValue(c.f)
			case text:
				v = parquet.ByteArrayValue([]byte(c.s))
			case boolean:
				v = parquet.BooleanValue(c.truth())
			default:
				v = parquet.Int64Value(c.i)
			}
		}
		row[i] = v.Level(0, level, i)
	}
	p.group++
	if p.n++; p.n == len(p.rows) {
		return p.pass()
	}
	return nil
}

func (p *parquetRows) pass() error {
	_, err := p.w.WriteRows(p.rows[:p.n])
	p.n = 0
	return err
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
