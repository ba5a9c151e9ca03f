package roster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/ledger"
)

// View is the roster as its file has it now. Asking costs a stat while nothing
// changed, and the new rows after a change. It is safe for concurrent use.
type View struct {
	fsys disk.FS
	path string

	mu      sync.Mutex
	info    fs.FileInfo // of the file at the last look; nil before the first
	offset  int64       // what lies before it is folded
	last    []byte      // the last folded line, to notice that the file was cut and grew again
	hosts   map[ident.Host]Host
	damaged int
}

// Open returns the view of the roster in the authority's folder. The file need
// not exist yet.
func Open(fsys disk.FS, dir string) *View {
	return &View{fsys: fsys, path: filepath.Join(dir, File)}
}

// Host returns a host's state, and whether the roster knows it. While there is
// no roster the error is fs.ErrNotExist: nothing is known then, which is not a
// reason to turn a host away for good.
func (v *View) Host(name ident.Host) (Host, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.refresh(); err != nil {
		return Host{}, false, err
	}
	h, ok := v.hosts[name]
	return h, ok, nil
}

// All returns every host, decommissioned ones too, ordered by name. Before the
// authority's first start there is none.
func (v *View) All() ([]Host, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.refresh(); err != nil && (v.info != nil || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	all := make([]Host, 0, len(v.hosts))
	for _, h := range v.hosts {
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b Host) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return all, nil
}

// Damaged returns how many rows of the file cannot be read and were passed over.
func (v *View) Damaged() (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.refresh()
	return v.damaged, err
}

func (v *View) refresh() error {
	fi, err := v.fsys.Lstat(v.path)
	if err != nil {
		return fmt.Errorf("read roster: %w", err)
	}
	if v.info != nil && disk.SameFile(fi, v.info) && fi.Size() == v.info.Size() && fi.ModTime().Equal(v.info.ModTime()) {
		return nil
	}
	f, err := v.fsys.OpenFile(v.path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("read roster: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	if fi, err = f.Stat(); err != nil {
		return fmt.Errorf("read roster: %w", err)
	}
	if v.info == nil || !disk.SameFile(fi, v.info) || !v.continues(f) {
		v.offset, v.last, v.damaged = 0, nil, 0
		v.hosts = make(map[ident.Host]Host)
	}
	// Up to the size of the stat, so that what is written meanwhile shows as a
	// change at the next look.
	rows := bufio.NewScanner(io.NewSectionReader(f, v.offset, fi.Size()-v.offset))
	rows.Buffer(nil, ledger.MaxLine)
	rows.Split(whole)
	for rows.Scan() {
		line := rows.Bytes()
		v.take(line)
		v.offset += int64(len(line)) + 1
		v.last = append(v.last[:0], line...)
	}
	if err := rows.Err(); err != nil {
		v.info = nil // read it all again
		return fmt.Errorf("read roster: %w", err)
	}
	v.info = fi
	return nil
}

// whole splits off a line with its end. A torn one is none: the writer completes it or
// cuts it off.
func whole(data []byte, _ bool) (advance int, line []byte, err error) {
	i := bytes.IndexByte(data, '\n')
	if i < 0 {
		return 0, nil, nil
	}
	return i + 1, data[:i], nil
}

// continues tells whether the file still has what was folded: the writer cuts
// rows off that it could not make durable.
func (v *View) continues(f disk.File) bool {
	if v.offset == 0 {
		return true
	}
	got := make([]byte, len(v.last)+1)
	n, _ := f.ReadAt(got, v.offset-int64(len(got))) // a short read compares as different
	return n == len(got) && bytes.Equal(got[:n-1], v.last) && got[n-1] == '\n'
}

func (v *View) take(line []byte) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil || e.Host == "" || e.At.Equal(time.Time{}) {
		v.damaged++
		return
	}
	if !e.Clock.IsZero() {
		e.At = e.Clock
	}
	fold(v.hosts, e)
}
