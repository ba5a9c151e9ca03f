package export

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strconv"

	"cis490/internal/disk"
	"cis490/internal/ident"
)

// Format is the form of the exported files.
type Format string

// The formats.
const (
	Parquet    Format = "parquet"
	CSV        Format = "csv"   // gzip
	JSONL      Format = "jsonl" // gzip
	WebDataset Format = "webdataset"
)

// Formats are all formats.
func Formats() []Format { return []Format{Parquet, CSV, JSONL, WebDataset} }

// suffix returns the ending of file names.
func (f Format) suffix() string {
	switch f {
	case CSV, JSONL:
		return "." + string(f) + ".gz"
	case WebDataset:
		return ".tar"
	}
	return "." + string(f)
}

// rows writes the rows of one table.
type rows interface {
	// write writes rows, whose cells follow each other.
	write(cells []cell) error
	// episode marks the end of an episode.
	episode() error
	Close() error
}

// File describes a file of the export.
type File struct {
	Path   string       `json:"path"`
	Table  string       `json:"table,omitempty"`
	Split  string       `json:"split,omitempty"`
	Rows   int64        `json:"rows"` // of a WebDataset shard: episodes
	Bytes  int64        `json:"bytes"`
	Digest ident.Digest `json:"sha256"`
}

// file is a file that is being written. It appears under its name when it is complete.
type file struct {
	File
	folder string
	f      disk.File
	sum    hash.Hash
}

func create(folder string, as File) (*file, error) {
	at := path.Join(folder, as.Path)
	if err := disk.MkdirAll(disk.OS{}, path.Dir(at), 0o755); err != nil {
		return nil, err
	}
	f, err := disk.OS{}.OpenFile(at+disk.Partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return &file{as, folder, f, sha256.New()}, nil
}

// Write counts and hashes what is written.
func (f *file) Write(b []byte) (int, error) {
	n, err := f.f.Write(b)
	f.Bytes += int64(n)
	_, _ = f.sum.Write(b[:n]) // a hash.Hash never returns an error
	return n, err
}

// finish makes the file durable under its name.
func (f *file) finish() error {
	f.Digest = ident.Digest(hex.EncodeToString(f.sum.Sum(nil)))
	at := path.Join(f.folder, f.Path)
	if err := errors.Join(f.f.Sync(), f.f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return disk.OS{}.Rename(at+disk.Partial, at)
}

// newRows returns a writer of a table's rows.
func newRows(f Format, w io.Writer, t *table) (rows, error) {
	switch f {
	case CSV:
		z := gzip.NewWriter(w)
		c := &csvRows{table: t, z: z, w: csv.NewWriter(z)}
		header := make([]string, len(t.columns))
		for i, col := range t.columns {
			header[i] = col.name
		}
		return c, c.w.Write(header)
	case JSONL:
		z := gzip.NewWriter(w)
		return &jsonRows{table: t, z: z}, nil
	}
	return newParquet(w, t), nil
}

type csvRows struct {
	table *table
	z     *gzip.Writer
	w     *csv.Writer
	line  []string
}

func (c *csvRows) write(cells []cell) error {
	for row := range slices.Chunk(cells, len(c.table.columns)) {
		c.line = c.line[:0]
		for i, v := range row {
			c.line = append(c.line, string(v.appendText(nil, c.table.columns[i].kind)))
		}
		if err := c.w.Write(c.line); err != nil {
			return err
		}
	}
	return nil
}

func (c *csvRows) episode() error { return nil }

// Close ends the file.
func (c *csvRows) Close() error {
	c.w.Flush()
	return errors.Join(c.w.Error(), c.z.Close())
}

// appendText appends a value as text; an absent one has none.
func (c cell) appendText(b []byte, k kind) []byte {
	switch {
	case !c.set:
		return b
	case k == number:
		return strconv.AppendFloat(b, c.f, 'g', -1, 64)
	case k == text:
		return append(b, c.s...)
	case k == boolean:
		return strconv.AppendBool(b, c.truth())
	}
	return strconv.AppendInt(b, c.i, 10)
}

type jsonRows struct {
	table *table
	z     *gzip.Writer
	line  []byte
}

func (j *jsonRows) write(cells []cell) error {
	for row := range slices.Chunk(cells, len(j.table.columns)) {
		if err := j.row(row); err != nil {
			return err
		}
	}
	return nil
}

func (j *jsonRows) row(cells []cell) error {
	j.line = append(j.line[:0], '{')
	for i, v := range cells {
		if !v.set {
			continue
		}
		if len(j.line) > 1 {
			j.line = append(j.line, ',')
		}
		j.line = append(append(append(j.line, '"'), j.table.columns[i].name...), '"', ':')
		if j.table.columns[i].kind != text {
			j.line = v.appendText(j.line, j.table.columns[i].kind)
			continue
		}
		quoted, err := json.Marshal(string(v.s))
		if err != nil {
			return err
		}
		j.line = append(j.line, quoted...)
	}
	_, err := j.z.Write(append(j.line, '}', '\n'))
	return err
}

func (j *jsonRows) episode() error { return nil }

// Close ends the file.
func (j *jsonRows) Close() error { return j.z.Close() }
