package ledger

import (
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

// backBlock is how much is read at a time on the way back.
const backBlock = 1 << 20

// Place is a row and the offset at which its line starts: what lies before it is
// older.
type Place struct {
	Row
	Offset int64
}

// Backward yields the rows that start before an offset, newest first; an offset below 0 is
// the end of the file. With needles, only blocks and lines that contain all of them are
// parsed, which makes a search fast; for a block without a match it yields a Place with no
// Line, whose Offset is the progress of the search. A line that crosses the start of a block
// is yielded with the block before.
func Backward(fsys disk.FS, path, timeKey string, before int64, needles ...[]byte) iter.Seq2[Place, error] {
	return func(yield func(Place, error) bool) {
		f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(Place{}, err)
			return
		}
		defer func() { _ = f.Close() }() // only read
		fi, err := f.Stat()
		if err != nil {
			yield(Place{}, err)
			return
		}
		if before < 0 || before > fi.Size() {
			before = fi.Size()
		}
		buf := make([]byte, backBlock)
		for end := before; end > 0; {
			start, block, err := backward(f, end, buf)
			if err != nil {
				yield(Place{}, fmt.Errorf("read %s: %w", path, err))
				return
			}
			if !holds(block, needles) {
				if end = start; !yield(Place{Offset: end}, nil) {
					return
				}
				continue
			}
			for len(block) > 0 {
				at := bytes.LastIndexByte(block[:len(block)-1], '\n') + 1
				line := bytes.TrimSuffix(block[at:], []byte("\n"))
				block = block[:at]
				when, ok := rowTime(line, timeKey)
				if ok && holds(line, needles) && !yield(Place{Row{when, line}, start + int64(at)}, nil) {
					return
				}
			}
			end = start
		}
	}
}

// backward reads the whole lines before end. The line that the block's start cuts is left
// to the next call.
func backward(f io.ReaderAt, end int64, buf []byte) (start int64, block []byte, err error) {
	for size := int64(len(buf)); ; size *= 2 {
		start = max(0, end-size)
		if int64(len(buf)) < end-start {
			buf = make([]byte, size)
		}
		block = buf[:end-start]
		if _, err := f.ReadAt(block, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		// A torn last line is not a row.
		if cut := bytes.LastIndexByte(block, '\n') + 1; cut < len(block) {
			block = block[:cut]
		}
		if start == 0 {
			return 0, block, nil
		}
		if first := bytes.IndexByte(block, '\n') + 1; first > 0 && first < len(block) {
			return start + int64(first), block[first:], nil
		}
		if size > 2*MaxLine {
			return 0, nil, fmt.Errorf("no line ends within %d bytes: is this a ledger?", size)
		}
	}
}

func holds(b []byte, needles [][]byte) bool {
	for _, n := range needles {
		if !bytes.Contains(b, n) {
			return false
		}
	}
	return true
}

// Start returns an offset for Backward: every row before it is older than at, and at most a
// few kilobytes of older rows follow it.
func Start(fsys disk.FS, path, timeKey string, at time.Time) (int64, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return bisect(f, fi.Size(), timeKey, at)
}
