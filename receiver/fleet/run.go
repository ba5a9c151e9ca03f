package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/ledger"
	"cis490/internal/machine"
	"cis490/receiver/silences"
)

// RunFile is the name of the last run in the receiver's data folder. It can be
// thrown away: the next run makes it anew.
const RunFile = "fleet-check.json"

// Last is the content of RunFile: when fleet-check last ran, what was open
// then, and what the next run has to remember.
type Last struct {
	At     time.Time             `json:"at"`
	Hosts  int                   `json:"hosts"`
	Open   []Alert               `json:"open"`
	Errors []string              `json:"errors,omitempty"` // facts that could not be read
	Seen   []Sight               `json:"seen,omitempty"`
	Growth map[ident.Host]Growth `json:"growth,omitempty"`
	Clock  clock.Line            `json:"clock,omitzero"` // how the times in it lie
}

// Sight is since when a finding has been there, counted or not.
type Sight struct {
	Host    string    `json:"host"`
	Symptom string    `json:"symptom"`
	Since   time.Time `json:"since"`
}

// Options describe a run.
type Options struct {
	Source
	Limits   Limits
	Now      time.Time
	Known    func(id string) (check.Check, bool) // the registry of lab hosts and receiver
	Receiver []check.Row                         // the receiver's own checks; nil: not judged
	DryRun   bool                                // write and tell nothing
	Tell     func(Alert) error                   // syslog; called before the row is written
	Log      *slog.Logger
}

// Result is what a run found and wrote.
type Result struct {
	Last
	Rows []Alert // written, or with DryRun those that would be
}

// Run gathers, judges, tells and writes, once.
func Run(o Options) (Result, error) {
	o.Now = o.Now.UTC()
	if !o.DryRun {
		unlock, err := lock(o.DataDir)
		if err != nil {
			return Result{}, err
		}
		defer unlock()
	}
	state, err := ReadState(o.FS, o.DataDir)
	if err != nil {
		return Result{}, fmt.Errorf("read %s: %w", AlertsFile, err)
	}
	last, err := ReadLast(o.FS, o.DataDir)
	if err != nil {
		o.Log.Warn("last run is forgotten", "err", err)
	}
	last.bridge(o.reading(o.Now))
	state.past(o.Now, last.seen())
	facts, err := Gather(o.Source, o.Now, o.Limits)
	next := Last{At: o.Now, Hosts: len(facts.Hosts), Clock: last.Clock}
	if err != nil {
		next.Errors = append(next.Errors, check.Plain(err.Error(), 500))
		o.Log.Warn("some facts cannot be read", "err", err)
	}
	facts.Receiver, facts.Known = o.Receiver, o.Known
	facts.Held, facts.Seen = state.Entries, last.seen()
	next.Growth = facts.grow(last.Growth)
	found, seen := Judge(facts)
	found = append(found, facts.kept(found, last.Open)...)
	for k, since := range seen {
		next.Seen = append(next.Seen, Sight{k.Host, k.Symptom, since})
	}
	hush, err := silences.Read(o.FS, o.DataDir)
	if err != nil { // then too much is told rather than too little
		next.Errors = append(next.Errors, check.Plain(err.Error(), 500))
		o.Log.Warn("silences cannot be read", "err", err)
	}
	next.Open = []Alert{}
	for i, x := range found {
		found[i].Silenced = hush[silences.Key(x.Key())].Covers(state.Entries[x.Key()].began(seen[x.Key()]), o.Now)
		next.Open = append(next.Open, alertOf(found[i], o.Now))
	}
	r := Result{Last: next, Rows: state.Next(o.Now, found)}
	for i, a := range r.Rows {
		if a.State == Resolved {
			e := Entry{Firing: true, Began: state.Entries[a.Key()].Began} // until this row
			r.Rows[i].Silenced = hush[silences.Key(a.Key())].Covers(e.began(facts.Seen[a.Key()]), o.Now)
		}
	}
	if o.DryRun {
		return r, nil
	}
	return r, errors.Join(o.write(r.Rows), o.remember(next))
}

// write tells each row and appends it. Telling comes first: a crash between the
// two repeats a line, it never loses one.
func (o Options) write(rows []Alert) error {
	if len(rows) == 0 {
		return nil
	}
	l, err := ledger.Open(ledger.Options{
		FS: o.FS, Path: filepath.Join(o.DataDir, AlertsFile), TimeKey: timeKey, Perm: 0o640,
		// The rows of a run are of one moment.
		Now: func() time.Time { return rows[0].At },
	})
	var errs []error
	for _, a := range rows {
		if a.Told() && o.Tell != nil {
			errs = append(errs, o.Tell(a))
		}
		if err == nil {
			err = l.Append(func(at time.Time) any { a.At = at; return a })
		}
	}
	if l != nil {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, err)...)
}

func (o Options) remember(l Last) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("remember this run: %w", err)
	}
	return disk.ReplaceBytes(o.FS, filepath.Join(o.DataDir, RunFile), 0o644, append(b, '\n'))
}

// ReadLast reads the last run; none is the zero Last.
func ReadLast(fsys disk.FS, dataDir string) (Last, error) {
	var l Last
	b, err := disk.ReadFile(fsys, filepath.Join(dataDir, RunFile), 64<<20)
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

// grow carries on since when each outbox has not been smaller.
func (f *Facts) grow(before map[ident.Host]Growth) map[ident.Host]Growth {
	now := map[ident.Host]Growth{}
	if f.Unread {
		maps.Copy(now, before)
	}
	for name, h := range f.Hosts {
		if h.Heard.Waiting == 0 || !f.speaks(name, BacklogGrowing, h.Heard.At) {
			continue
		}
		g, ok := before[name]
		if !ok || h.Heard.Waiting < g.Waiting {
			g = Growth{f.Now, h.Heard.Waiting}
		}
		h.Growth, now[name] = g, g
	}
	return now
}

// lock makes sure that one fleet-check at a time works on the data, and that
// what it writes is its owner's.
func lock(dir string) (unlock func(), err error) {
	d, err := disk.OS{}.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	fi, err := d.Stat()
	if err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			owner := machine.UserName(st.Uid)
			err = fault.Exit(fault.Fix(fmt.Errorf("%s belongs to %s: what this user wrote there would be in the way", dir, owner),
				fmt.Sprintf("sudo -u %s cis490 fleet-check   # or only look: cis490 fleet-check --dry-run", owner)), fault.NoPerm)
		}
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	// Not the folder itself: that is serve's lock.
	f, err := disk.OS{}.LockFile(filepath.Join(dir, "fleet-check.lock"), 0o600)
	if errors.Is(err, disk.ErrLocked) {
		err = fault.Exit(errors.New("another fleet-check is running"), fault.TempFail)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil // the lock ends with it
}

// began is when an alert began that was first found at a time: then, where its row
// had to wait for the next hour, and at the latest with its first row.
func (e Entry) began(seen time.Time) time.Time {
	if e.Firing && (seen.IsZero() || e.Began.Before(seen)) {
		return e.Began
	}
	return seen
}

// Began returns when each alert began that is open, by its rows or by the last run.
func Began(fsys disk.FS, dataDir string) (map[Key]time.Time, error) {
	state, err := ReadState(fsys, dataDir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", AlertsFile, err)
	}
	last, err := ReadLast(fsys, dataDir)
	if err != nil {
		last = Last{} // it can be thrown away: the rows know nearly all
	}
	open, seen := map[Key]time.Time{}, last.seen()
	for k, e := range state.Entries {
		if e.Firing {
			open[k] = e.began(seen[k])
		}
	}
	for _, a := range last.Open {
		if _, ok := open[a.Key()]; !ok && !seen[a.Key()].IsZero() {
			open[a.Key()] = seen[a.Key()]
		}
	}
	return open, nil
}

// Silenced returns the silences that hold now, by the alert that they cover.
func Silenced(fsys disk.FS, dataDir string, now time.Time) (map[Key]silences.Silence, error) {
	all, err := silences.Read(fsys, dataDir)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	open, err := Began(fsys, dataDir)
	if err != nil {
		return nil, err
	}
	hold := map[Key]silences.Silence{}
	for k, s := range all {
		began, ok := open[Key(k)]
		if s.Covers(began, now) && (ok || !s.Until.IsZero()) {
			hold[Key(k)] = s
		}
	}
	return hold, nil
}
