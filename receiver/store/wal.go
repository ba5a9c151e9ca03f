package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"cis490/internal/disk"
)

// errJournalFull tells that an upload has to take the longer way.
var errJournalFull = errors.New("journal is full")

const (
	// page is what a batch of records begins at, so that a write torn by a power
	// cut touches no record that was answered before.
	page = 4 << 10
	// recordHead is magic, generation, length of the rest, and its CRC-32C.
	recordHead  = 4 + 8 + 4 + 4
	recordMagic = 0xc1549001
)

// wal is two files of fixed size, one of which is written while the lines of the
// other are settled. They are written over and over: a sync then has no new
// size or block to note, so it waits for no commit of the file system. The
// records that count are those of one generation from the file's beginning on.
type wal struct {
	fs   disk.FS
	dir  string
	size int64

	queueMu sync.Mutex
	queue   []*record

	mu     sync.Mutex // held during a batch's write and sync
	f      disk.File  // nil: the next record begins a file
	cur    int
	pos    int64
	gen    uint64
	lines  [2]int // records that are not settled
	used   [2]bool
	broken atomic.Bool // a write failed: what the files hold after it is unknown
}

// record is a payload on its way into the file.
type record struct {
	payload []byte
	file    int
	done    chan error
}

func (w *wal) path(i int) string { return filepath.Join(w.dir, fmt.Sprintf("%d.journal", i)) }

// append makes a payload durable, together with those that come at the same
// time, and returns which file has it.
func (w *wal) append(payload []byte) (file int, err error) {
	r := &record{payload: payload, done: make(chan error, 1)}
	w.queueMu.Lock()
	w.queue = append(w.queue, r)
	w.queueMu.Unlock()

	// Whoever gets the lock writes for all who wait; the others find an answer.
	w.mu.Lock()
	w.queueMu.Lock()
	batch := w.queue
	w.queue = nil
	w.queueMu.Unlock()
	if len(batch) > 0 {
		w.commit(batch)
	}
	w.mu.Unlock()
	return r.file, <-r.done
}

func (w *wal) commit(batch []*record) {
	var total int64
	for _, r := range batch {
		total += recordHead + int64(len(r.payload))
	}
	err := w.room(total)
	var buf []byte
	var taken []*record
	for _, r := range batch {
		switch n := recordHead + len(r.payload); {
		case err != nil:
			r.done <- err
		case w.pos+int64(len(buf)+n) > w.size:
			r.done <- errJournalFull
		default:
			buf = w.encode(buf, r.payload)
			r.file, taken = w.cur, append(taken, r)
		}
	}
	if len(taken) == 0 {
		return
	}
	buf = append(buf, make([]byte, -len(buf)&(page-1))...)
	_, err = w.f.Write(buf)
	if err == nil {
		err = disk.SyncData(w.f)
	}
	if err != nil {
		w.broken.Store(true)
		err = errors.Join(fmt.Errorf("write journal: %w", err), w.f.Close())
		w.f = nil
	} else {
		w.pos += int64(len(buf))
		w.lines[w.cur] += len(taken)
	}
	for _, r := range taken {
		r.done <- err
	}
}

func (w *wal) encode(buf, payload []byte) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, recordMagic)
	buf = binary.LittleEndian.AppendUint64(buf, w.gen)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(payload)))
	buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return append(buf, payload...)
}

// room makes sure that a file is open, if it can with that much room.
func (w *wal) room(total int64) error {
	switch {
	case w.broken.Load():
		return errors.New("journal: a write failed, and what was written before is not settled yet")
	case w.f == nil && !w.used[w.cur]:
		return w.begin(w.cur)
	case w.f != nil && w.pos+total <= w.size:
		return nil
	case w.used[1-w.cur]:
		if w.f == nil {
			return errJournalFull
		}
		return nil // what fits, fits
	}
	if w.f != nil {
		if err := w.f.Close(); err != nil {
			w.f = nil
			w.broken.Store(true)
			return fmt.Errorf("end file of the journal: %w", err)
		}
		w.f = nil
	}
	return w.begin(1 - w.cur)
}

// begin opens a file to be written from its beginning, and makes it in its full
// size where it is not there.
func (w *wal) begin(i int) error {
	f, err := w.fs.OpenFile(w.path(i), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = w.create(i)
	}
	if err != nil {
		return fmt.Errorf("begin file of the journal: %w", err)
	}
	w.f, w.cur, w.pos, w.gen, w.used[i] = f, i, 0, rand.Uint64(), true
	return nil
}

func (w *wal) create(i int) (disk.File, error) {
	if err := disk.WriteSync(w.fs, w.path(i), filePerm, func(f io.Writer) error {
		zeros := make([]byte, min(w.size, 256<<10))
		for left := w.size; left > 0; left -= int64(len(zeros)) {
			if _, err := f.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return nil, errors.Join(err, w.fs.Remove(w.path(i)))
	}
	return w.fs.OpenFile(w.path(i), os.O_RDWR, 0)
}

// settled notes records as settled. A file whose records all are, and that is
// not being written (or is, and idle is set), is wiped, so that a start need not
// look through it.
func (w *wal) settled(n [2]int, idle bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range n {
		w.lines[i] -= n[i]
	}
	if w.broken.Load() {
		return w.reset()
	}
	for i := range n {
		if !w.used[i] || w.lines[i] > 0 {
			continue
		}
		if i == w.cur && w.f != nil {
			if !idle {
				continue
			}
			err := w.f.Close()
			if w.f = nil; err != nil {
				w.broken.Store(true)
				return fmt.Errorf("end file of the journal: %w", err)
			}
		}
		if err := w.wipe(i); err != nil {
			w.broken.Store(true)
			return err
		}
		w.used[i] = false
	}
	return nil
}

func (w *wal) wipe(i int) error {
	f, err := w.fs.OpenFile(w.path(i), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wipe journal: %w", err)
	}
	_, err = f.Write(make([]byte, page))
	if err == nil {
		err = disk.SyncData(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("wipe journal: %w", err)
	}
	return nil
}

// reset removes the files after a failure, once all that was answered is
// settled: what a failed write left in them must not come back.
func (w *wal) reset() error {
	if w.lines[0]+w.lines[1] > 0 {
		return nil
	}
	if err := w.removeFiles(); err != nil {
		return err
	}
	w.used, w.cur = [2]bool{}, 0
	w.broken.Store(false)
	return nil
}

func (w *wal) removeFiles() error {
	for i := range w.used {
		if err := w.fs.Remove(w.path(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove file of the journal: %w", err)
		}
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return fmt.Errorf("remove file of the journal: %w", err)
	}
	return nil
}

// close closes the open file.
func (w *wal) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken.Store(true)
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

// payloads returns what a file of the journal has, in its order.
func payloads(b []byte) (all [][]byte) {
	var gen uint64
	for pos := 0; ; {
		if pos+recordHead > len(b) {
			return all
		}
		head := b[pos:]
		n := int64(binary.LittleEndian.Uint32(head[12:]))
		g := binary.LittleEndian.Uint64(head[4:])
		ok := binary.LittleEndian.Uint32(head) == recordMagic && (len(all) == 0 || g == gen) && n <= int64(len(head)-recordHead)
		if ok {
			payload := head[recordHead : recordHead+n]
			ok = crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)) == binary.LittleEndian.Uint32(head[16:])
			if ok {
				gen, all = g, append(all, payload)
				pos += recordHead + int(n)
				continue
			}
		}
		if pos&(page-1) == 0 {
			return all
		}
		pos = (pos + page) &^ (page - 1) // the next batch begins there
	}
}
