package ledger

import (
	"bufio"
	"fmt"
	"io"

	"cis490/internal/disk"
)

// Keep rewrites the ledger with only the rows that keep wants, and its last row, so that it
// need not grow without bound. Rows appended meanwhile wait. After a crash or an error the
// ledger is the old one or the new one, never a mix.
func (l *Ledger) Keep(keep func(Row) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	// The next Append finds a new file at the path and opens it; until its name is durable,
	// nothing is appended.
	if err := disk.Replace(l.o.FS, l.o.Path, l.o.Perm, func(w io.Writer) error { return l.copy(w, keep) }); err != nil {
		return fmt.Errorf("shorten ledger: %w", err)
	}
	return nil
}

func (l *Ledger) copy(w io.Writer, keep func(Row) bool) error {
	in := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, l.durable.Load()), 64<<10)
	out := bufio.NewWriterSize(w, 64<<10)
	var long []byte
	for at := int64(0); at < l.durable.Load(); {
		line, took, err := nextLine(in, &long)
		if err != nil {
			return err
		}
		at += took
		when, ok := rowTime(line, l.o.TimeKey)
		if line == nil || at < l.durable.Load() && (!ok || !keep(Row{when, line})) {
			continue
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}
