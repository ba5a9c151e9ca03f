// Package records keeps files with what the authority recorded in a database.
//
// A file whose name ends in .jsonl gets the rows as lines; another one is its last row. A file
// that has lines which the database lacks is not changed, because they may be revocations that
// the database lost: see ErrAhead and DivergedError.
//
//storage:files copies of what the authority recorded, which programs read from folders
package records

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cis490/internal/disk"
	"cis490/receiver"
)

// ErrAhead reports that a file begins with the database's rows and has more.
var ErrAhead = errors.New("a file has rows that the database lacks")

// DivergedError reports that a file has other rows than the database.
type DivergedError struct{ Path string }

func (e *DivergedError) Error() string {
	return "a file and the database have different rows: " + e.Path
}

// Options describe copies.
type Options struct {
	Rows receiver.RecordReader
	FS   disk.FS
	Dir  string
	// Files are the files to keep, by their mode.
	Files map[string]fs.FileMode
	// Replace replaces files that differ, also those that have more rows.
	Replace bool
}

// Copies are files that follow the database.
type Copies struct {
	o      Options
	last   int64
	begun  bool
	values map[string]string // the last row of each file that is not a ledger
	more   []receiver.Record // lines that the database lacks
}

// New returns copies. Follow brings them up to date.
func New(o Options) *Copies { return &Copies{o: o} }

// Begun reports whether the database has any rows.
func (c *Copies) Begun() bool { return c.last > 0 }

// Value returns the last row of a file that is not a ledger, whether or not it is one of Files.
func (c *Copies) Value(file string) (string, bool) {
	v, ok := c.values[file]
	return v, ok
}

// Set notes a row that this process appended.
func (c *Copies) Set(file, line string) { c.values[file] = line }

// Missing returns the lines that the database lacks, after ErrAhead.
func (c *Copies) Missing() []receiver.Record { return c.more }

// Follow writes the rows since the last call. After an error the next call compares all rows.
func (c *Copies) Follow() (err error) {
	defer func() {
		if err != nil {
			c.begun = false
		}
	}()
	if !c.begun || c.last == 0 { // before the first row a file may have been copied from elsewhere
		return c.begin()
	}
	return c.rows(func(all []receiver.Record) error {
		lines := map[string][]byte{}
		for _, r := range all {
			if c.ledger(r.File) {
				lines[r.File] = append(append(lines[r.File], r.Line...), '\n')
			}
		}
		for _, name := range slices.Sorted(maps.Keys(lines)) {
			if err := c.append(name, lines[name]); err != nil {
				return err
			}
		}
		return c.replace()
	})
}

// begin compares the files with all rows, and appends what they lack.
func (c *Copies) begin() error {
	c.last, c.values, c.more = 0, map[string]string{}, nil
	local := map[string]*reader{}
	defer func() {
		for _, r := range local {
			_ = r.f.Close() // only read
		}
	}()
	for name := range c.o.Files {
		if !c.ledger(name) {
			continue
		}
		r, err := c.open(name)
		if err != nil {
			return err
		}
		if r != nil {
			local[name] = r
		}
	}
	missing := map[string][]byte{}
	differs := ""
	err := c.rows(func(all []receiver.Record) error {
		for _, r := range all {
			if !c.ledger(r.File) {
				continue
			}
			have, more, err := local[r.File].next()
			switch {
			case err != nil:
				return err
			case !more || c.o.Replace:
				missing[r.File] = append(append(missing[r.File], r.Line...), '\n')
			case have != r.Line:
				differs = r.File
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if differs != "" && !c.o.Replace {
		return &DivergedError{filepath.Join(c.o.Dir, differs)}
	}
	if !c.o.Replace {
		for _, name := range slices.Sorted(maps.Keys(local)) {
			for {
				line, more, err := local[name].next()
				if err != nil {
					return err
				}
				if !more {
					break
				}
				c.more = append(c.more, receiver.Record{File: name, Line: line})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if err := c.bring(name, missing[name]); err != nil {
			return err
		}
	}
	if err := c.replace(); err != nil {
		return err
	}
	if len(c.more) > 0 {
		return fmt.Errorf("%w: %d in %s, and perhaps others", ErrAhead, len(c.more), filepath.Join(c.o.Dir, c.more[0].File))
	}
	c.begun = true
	return nil
}

// rows calls do with each page of rows.
func (c *Copies) rows(do func([]receiver.Record) error) error {
	for {
		page, err := c.o.Rows.Since(c.last)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			if !strings.HasSuffix(r.File, ".jsonl") {
				c.values[r.File] = r.Line
			}
		}
		if err := do(page); err != nil {
			return err
		}
		c.last = page[len(page)-1].ID
	}
}

// ledger reports whether a file is one of the ledgers to keep.
func (c *Copies) ledger(name string) bool {
	_, ours := c.o.Files[name]
	return ours && strings.HasSuffix(name, ".jsonl")
}

// bring writes the lines that a ledger lacks: all of them if it is replaced.
func (c *Copies) bring(name string, lines []byte) error {
	if !c.o.Replace {
		return c.append(name, lines)
	}
	return c.write(name, lines)
}

// append appends lines durably, after it cut a torn last line.
func (c *Copies) append(name string, lines []byte) (err error) {
	path := filepath.Join(c.o.Dir, name)
	f, err := c.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, c.o.Files[name])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	whole, err := wholeLines(f, fi.Size())
	if err == nil && whole != fi.Size() {
		err = f.Truncate(whole)
	}
	if err == nil {
		_, err = f.Write(lines)
	}
	return errors.Join(err, f.Sync(), c.o.FS.SyncDir(c.o.Dir))
}

// wholeLines returns where the last whole line ends.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	for end := size; end > 0; {
		b := make([]byte, min(end, 64<<10))
		if _, err := f.ReadAt(b, end-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		end -= int64(len(b))
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return end + int64(i) + 1, nil
		}
	}
	return 0, nil
}

// replace writes the files that are not ledgers, if they differ.
func (c *Copies) replace() error {
	for name, line := range c.values {
		if _, ours := c.o.Files[name]; !ours {
			continue
		}
		if err := c.write(name, []byte(line)); err != nil {
			return err
		}
	}
	return nil
}

// write replaces a file if it differs.
func (c *Copies) write(name string, content []byte) error {
	path := filepath.Join(c.o.Dir, name)
	if have, err := disk.ReadFile(c.o.FS, path, int64(len(content))); err == nil && bytes.Equal(have, content) {
		return nil
	}
	if err := disk.MkdirAll(c.o.FS, c.o.Dir, 0o750); err != nil {
		return err
	}
	return disk.ReplaceBytes(c.o.FS, path, c.o.Files[name], content)
}

// reader reads the whole lines of a file. A nil reader has none.
type reader struct {
	f disk.File
	b *bufio.Reader
}

func (c *Copies) open(name string) (*reader, error) {
	f, err := c.o.FS.OpenFile(filepath.Join(c.o.Dir, name), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &reader{f, bufio.NewReader(f)}, nil
}

func (r *reader) next() (line string, more bool, err error) {
	if r == nil {
		return "", false, nil
	}
	line, err = r.b.ReadString('\n')
	if errors.Is(err, io.EOF) { // a torn line is none
		return "", false, nil
	}
	return strings.TrimSuffix(line, "\n"), err == nil, err
}
