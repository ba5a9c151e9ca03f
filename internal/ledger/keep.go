package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"cis490/internal/disk"
)

// Keep rewrites the ledger with only the rows that keep wants, and its last row,
// so that it need not grow for ever. Rows appended meanwhile wait.
// After a crash, and after an error, the ledger is the old one or the new one as
// a whole.
func (l *Ledger) Keep(keep func(Row) bool) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ready(); err != nil {
		return err
	}
	if err := disk.Replace(l.o.FS, l.o.Path, l.o.Perm, func(w io.Writer) error { return l.copy(w, keep) }); err != nil {
		err = fmt.Errorf("shorten ledger: %w", err)
		// Perhaps the new file is in place, and its name not yet durable.
		err = errors.Join(err, l.f.Close())
		l.f = nil
		return err
	}
	err = l.f.Close() // of the old file, on which nothing is pending
	l.f = nil
	return errors.Join(err, l.reopen())
}

func (l *Ledger) copy(w io.Writer, keep func(Row) bool) error {
	in := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, l.durable), 64<<10)
	out := bufio.NewWriterSize(w, 64<<10)
	var long []byte
	for at := int64(0); at < l.durable; {
		line, took, err := nextLine(in, &long)
		if err != nil {
			return err
		}
		at += took
		when, ok := rowTime(line, l.o.TimeKey)
		if line == nil || at < l.durable && (!ok || !keep(Row{when, line})) {
			continue
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}
