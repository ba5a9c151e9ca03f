package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/disk"
	"cis490/internal/ledger"
)

// How many rows wait for alerts.jsonl, and for how long: what is open is in each hour's
// rows again.
const (
	maxUnwritten  = 20_000
	keepUnwritten = 24 * time.Hour
)

// tell says each row to syslog. It comes before anything is written: a crash in
// between repeats lines, it never loses one.
func (o Options) tell(rows []Alert) error {
	var errs []error
	for _, a := range rows {
		if a.Told() && o.Tell != nil {
			errs = append(errs, o.Tell(a))
		}
	}
	return errors.Join(errs...)
}

// record appends the rows that waited and the new ones to alerts.jsonl, as far as that
// goes, and remembers the run. The rest waits for the next run.
func (o Options) record(p past, next Last, rows []Alert) (Last, error) {
	wait := slices.Concat(p.queue, rows)
	next.Rows = p.rows
	var n int
	var err error
	if !p.memory.Lost && !p.memory.ReadOnly && len(wait) > 0 {
		n, err = o.append(wait)
	}
	if n > 0 {
		next.Rows = wait[n-1].At
	}
	for _, a := range wait[max(n, len(wait)-maxUnwritten):] {
		if o.Now.Sub(a.When()) <= keepUnwritten {
			next.Unwritten = append(next.Unwritten, a)
		}
	}
	b, bad := json.Marshal(next)
	if bad == nil {
		bad = p.memory.Write(RunFile, 0o644, append(b, '\n'))
	}
	return next, errors.Join(err, bad)
}

// append returns how many of the rows it has appended to alerts.jsonl.
func (o Options) append(rows []Alert) (n int, err error) {
	at := rows[0].At // a row that waited keeps its time, so that nobody is told of it twice
	l, err := ledger.Open(ledger.Options{
		FS: o.FS, Path: filepath.Join(o.DataDir, AlertsFile), TimeKey: timeKey, Perm: 0o640,
		Now: func() time.Time { return at },
	})
	if err != nil {
		return 0, err
	}
	for i := range rows {
		at = rows[i].At
		if err = l.Append(func(at time.Time) any { rows[i].At = at; return rows[i] }); err != nil {
			break
		}
		n++
	}
	return n, errors.Join(err, l.Close())
}

// SpareDir is the folder in which fleet-check's service keeps what the data folder does
// not take.
const SpareDir = "/run/cis490-fleet-health"

// ReadLast reads the last run; none is the zero Last.
func ReadLast(fsys disk.FS, dataDir string) (Last, error) {
	return readLast(Memory{FS: fsys, Dir: dataDir})
}

// Ran returns when the last run ended, by the files that it replaced; zero if there is none.
func (m Memory) Ran() (at time.Time) {
	paths := []string{filepath.Join(m.Dir, RunFile)}
	if m.Spare != "" {
		paths = append(paths, filepath.Join(m.Spare, RunFile), filepath.Join(m.Spare, RunFile+unwritten))
	}
	for _, path := range paths {
		if fi, err := m.FS.Lstat(path); err == nil && fi.ModTime().After(at) {
			at = fi.ModTime()
		}
	}
	return at
}

// Last reads the last run as it was written last, also while the data folder is broken.
func (m Memory) Last() (Last, error) { return readLast(m) }

func readLast(m Memory) (Last, error) {
	var l Last
	b, err := m.Read(RunFile, 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return Last{}, fmt.Errorf("read %s: %w", RunFile, err)
	}
	return l, nil
}

func (l Last) seen() map[Key]time.Time {
	m := map[Key]time.Time{}
	for _, s := range l.Seen {
		m[Key{s.Host, s.Symptom}] = s.Since
	}
	return m
}
