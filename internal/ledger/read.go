package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"cis490/internal/disk"
)

// Row is one line of a ledger, without its newline.
type Row struct {
	At   time.Time
	Line []byte // valid until the next row
}

// Clock returns the clock's reading when the row was written. It is before At if the clock
// was behind the row above.
func (r Row) Clock() time.Time {
	i := bytes.LastIndex(r.Line, []byte(`,"`+clockKey+`":"`))
	if i < 0 || bytes.IndexByte(r.Line[i:], '}') != len(r.Line)-1-i { // a row's own is its last field
		return r.At
	}
	if at, ok := rowTime(r.Line[i:], clockKey); ok && at.Before(r.At) {
		return at
	}
	return r.At
}

// Rows yields the rows whose time is not before from, oldest first. It finds the first by
// bisection, without reading older ones. A missing file yields nothing. A line that is
// torn, over MaxLine or without a time is skipped. After an error the sequence ends.
func Rows(fsys disk.FS, path, timeKey string, from time.Time) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(Row{}, err)
			return
		}
		defer func() { _ = f.Close() }() // only read
		fi, err := f.Stat()
		if err != nil {
			yield(Row{}, err)
			return
		}
		start, err := bisect(f, fi.Size(), timeKey, from)
		if err != nil {
			yield(Row{}, fmt.Errorf("read %s: %w", path, err))
			return
		}
		lines := linesOf(f, start, fi.Size(), 64<<10)
		var long []byte
		for {
			line, _, err := nextLine(lines, &long)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Row{}, fmt.Errorf("read %s: %w", path, err))
				return
			}
			if at, ok := rowTime(line, timeKey); ok && !at.Before(from) {
				if !yield(Row{at, line}, nil) {
					return
				}
			}
		}
	}
}

// Last returns the last whole row of a ledger, false if it has none. Its time is zero if
// the line has none.
func Last(fsys disk.FS, path, timeKey string) (Row, bool, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Row{}, false, nil
	}
	if err != nil {
		return Row{}, false, err
	}
	defer func() { _ = f.Close() }() // only read
	fi, err := f.Stat()
	if err != nil {
		return Row{}, false, err
	}
	_, line, err := tail(f, fi.Size())
	if err != nil || line == nil {
		return Row{}, false, err
	}
	at, _ := rowTime(line, timeKey)
	return Row{at, line}, true, nil
}

// linesOf reads a part of a file with a buffer of at most a size. Often the part is a few rows.
func linesOf(f io.ReaderAt, from, to, most int64) *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), int(min(most, to-from)))
}

// maxSkip bounds a run of bytes without a newline. A file that has a longer one is not a
// ledger, but perhaps a sparse file of terabytes, which would take hours to read.
const maxSkip = 16 * MaxLine

// nextLine returns the next whole line without its newline, nil for one over MaxLine, and
// how many bytes it read. A line over maxSkip is an error. A last line without newline is
// io.EOF.
func nextLine(r *bufio.Reader, long *[]byte) (line []byte, took int64, err error) {
	*long = (*long)[:0]
	for {
		part, err := r.ReadSlice('\n')
		took += int64(len(part))
		switch {
		case err == nil && len(*long) == 0:
			return part[:len(part)-1], took, nil
		case err == nil && took <= MaxLine:
			*long = append(*long, part[:len(part)-1]...)
			return *long, took, nil
		case err == nil:
			return nil, took, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, took, err
		case took > maxSkip:
			return nil, took, fmt.Errorf("no line ends within %d bytes: is this a ledger?", maxSkip)
		case took <= MaxLine:
			*long = append(*long, part...)
		}
	}
}

// bisect returns an offset at which a line starts, such that no row before it is at or
// after from. Lines without a time are skipped.
func bisect(f io.ReaderAt, size int64, timeKey string, from time.Time) (int64, error) {
	lo, hi := int64(0), size // the answer is a line start in [lo, hi]
	for hi-lo > 4096 {
		mid := lo + (hi-lo)/2
		start, end, at, err := timedLine(f, mid, hi, timeKey)
		switch {
		case err != nil:
			return 0, err
		case start < 0 || !at.Before(from):
			hi = mid
		default:
			lo = end
		}
	}
	return lo, nil
}

// timedLine finds the first line with a time that starts after off and before
// limit, and where it starts and ends; start is -1 if there is none.
func timedLine(f io.ReaderAt, off, limit int64, timeKey string) (start, end int64, at time.Time, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, off, limit-off), 4096)
	var long []byte
	pos := off
	for first := true; ; first = false {
		line, took, err := nextLine(r, &long)
		if errors.Is(err, io.EOF) {
			return -1, 0, time.Time{}, nil
		}
		if err != nil {
			return 0, 0, time.Time{}, err
		}
		start, pos = pos, pos+took
		if first {
			continue // off is most likely in the middle of this one
		}
		if at, ok := rowTime(line, timeKey); ok {
			return start, pos, at, nil
		}
	}
}

// tail returns the length of the file up to its last newline, and the last
// whole line.
func tail(f io.ReaderAt, size int64) (whole int64, line []byte, err error) {
	const block = 64 << 10
	var buf []byte
	for start := size; start > 0 && size-start <= 2*MaxLine; {
		n := min(block, start)
		start -= n
		part := make([]byte, n)
		if _, err := f.ReadAt(part, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		buf = append(part, buf...)
		end := bytes.LastIndexByte(buf, '\n')
		if end < 0 {
			continue
		}
		whole = start + int64(end) + 1
		if prev := bytes.LastIndexByte(buf[:end], '\n'); prev >= 0 || start == 0 {
			return whole, buf[prev+1 : end], nil
		}
	}
	if whole == 0 && size > 2*MaxLine {
		return 0, nil, fmt.Errorf("no line ends within the last %d bytes: is this a ledger?", 2*MaxLine)
	}
	return whole, nil, nil
}

// rowTime reads the time out of a row without decoding it. Within a JSON string
// a quote is escaped, so the first match is a key; writers put it first.
func rowTime(line []byte, key string) (time.Time, bool) {
	i := bytes.Index(line, []byte(`"`+key+`":`))
	if i < 0 {
		return time.Time{}, false
	}
	v := bytes.TrimLeft(line[i+len(key)+3:], " ")
	if len(v) == 0 || v[0] != '"' {
		return time.Time{}, false
	}
	end := bytes.IndexByte(v[1:], '"')
	if end < 0 {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(v[1:1+end]))
	return at, err == nil
}
