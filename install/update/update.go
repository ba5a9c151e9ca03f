// Package update keeps a machine on the release that it is offered, and in the
// state which that release describes (spec §9).
//
// A run does one step from durable state: it looks for a release, fetches it,
// puts it on trial, or judges the trial that is under way. What `current` names
// always runs: a version's folder is complete and has run before the symlink is
// swapped, which is one rename; the intent is durable before, so that a reboot, a
// power cut or a kill anywhere is only a step that is done again. `good` is what
// proved itself last; it is what runs this code, judges its successor, and is gone
// back to, with its own units, by its own install.
//
// It refuses what no trusted key signed, what is older than what that key signed
// before, what is not for this machine, and what failed here once. It never goes
// back because the receiver cannot be reached: only the new version's own
// behaviour counts.
package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Source is where releases come from: the receiver, or, on the receiver itself,
// its folder.
type Source interface {
	// Look returns what is offered to this machine; ErrNothing where that is
	// nothing, ErrUnchanged where it is what the tag stands for.
	Look(ctx context.Context, tag string) (o wire.Offer, newTag string, err error)
	// Blob returns content from an offset on, which may be less than was asked for.
	Blob(ctx context.Context, d ident.Digest, offset int64) (body io.ReadCloser, from int64, err error)
}

// What a source may say.
var (
	ErrNothing   = errors.New("no release is offered to this machine")
	ErrUnchanged = errors.New("the offer has not changed")
)

// Machine is what an update does to the machine beside its own files.
type Machine interface {
	// Prepare checks content by its digest and puts it, durably, at target.
	Prepare(content io.Reader, target string, d ident.Digest) error
	// SelfTest runs a binary that is not used yet and returns what it says it is.
	SelfTest(ctx context.Context, binary string) (version.Info, error)
	// Converge runs the binary's own install for each role.
	Converge(ctx context.Context, binary string) error
	// Restart restarts the daemons, for when no install can.
	Restart(ctx context.Context) error
	// Units tells how the daemons are.
	Units(ctx context.Context) ([]Daemon, error)
	// Examine asks the running version's doctor, and what became of the work.
	Examine(ctx context.Context, current string) Findings
	// Boot tells one boot from another.
	Boot() string
	// Logs returns what the units said since a moment.
	Logs(ctx context.Context, since time.Time) []byte
	// Report tells the receiver, as far as it can be reached.
	Report(ctx context.Context, good string)
}

// Options describe a machine that is kept up to date.
type Options struct {
	FS  disk.FS
	Dir string // /opt/cis490
	// Command is the symlink that units start, /usr/local/bin/cis490; "" is none.
	Command string
	Source  Source // nil: none is known, the machine is only repaired
	Machine Machine
	// Keys returns the public keys that this machine was given, for the first time
	// that it needs them; later ones come from releases alone.
	Keys func() (string, error)
	// Gated tells whether the receiver refuses what this version records, as far as
	// it can be asked; nil on a machine that records nothing.
	Gated  func(ctx context.Context) bool
	OS     string
	Arch   string
	Config config.Update
	Now    func() time.Time
	// Pause waits between two looks during the watch; it ends with ctx.
	Pause func(ctx context.Context, d time.Duration)
	Log   *slog.Logger
}

// Result is what a run came to.
type Result struct {
	Did     Did          `json:"did"`
	Version string       `json:"version,omitempty"` // that it was about
	Note    string       `json:"note,omitempty"`    // why not more
	Status  *wire.Update `json:"status"`
}

// Did says what a run did.
type Did string

// What a run can do.
const (
	Nothing    Did = "nothing new"
	Repaired   Did = "nothing new; the machine is as its version describes"
	Began      Did = "began a trial"
	Observing  Did = "trial goes on"
	Proved     Did = "trial ended well"
	RolledBack Did = "rolled back"
)

// Updater is one machine's update.
type Updater struct {
	o Options
	s State
}

// New returns the updater of a machine; the caller holds the lock that installs
// share.
func New(o Options) (*Updater, error) {
	u := &Updater{o: o}
	for _, d := range []string{"state", endedDir, "versions"} {
		perm := fs.FileMode(0o700)
		if d == "versions" {
			perm = 0o755
		}
		if err := disk.MkdirAll(o.FS, u.path(d), perm); err != nil {
			return nil, err
		}
	}
	var err error
	if u.s, err = load(o.FS, u.path(stateFile)); err != nil {
		// Nothing is lost by it that the machine does not show: see adopt.
		o.Log.Error("state of updates is begun anew", "err", err)
	}
	if p, err := ReadPublic(o.FS, o.Dir); u.s.Good.Digest == "" && err == nil && p != nil {
		for _, b := range p.RolledBack { // but for what failed here, which everybody may read
			u.s.Bad = append(u.s.Bad, Bad{RolledBack: b})
		}
	}
	return u, nil
}

// Run does what is due.
func (u *Updater) Run(ctx context.Context) (r Result, err error) {
	defer func() {
		if perr := u.publish(); perr != nil && err == nil {
			err = perr
		}
		r.Status = u.s.public(u.o.Config)
	}()
	if err := u.settle(); err != nil {
		return Result{}, err
	}
	if t := u.s.Trial; t != nil {
		switch t.Phase {
		case Applying:
			return u.resume(ctx)
		case RollingBack:
			return u.rollBack(ctx)
		default:
			return u.judge(ctx)
		}
	}
	target, note, err := u.look(ctx)
	if err != nil {
		return Result{}, err
	}
	if target != nil {
		ready, why, err := u.fetch(ctx, *target)
		if err != nil {
			return Result{}, err
		}
		if ready {
			return u.apply(ctx, *target)
		}
		note = why
	}
	return u.repair(ctx, note)
}

// Check tells what a run would do, and changes nothing.
func (u *Updater) Check(ctx context.Context) (Result, error) {
	r := Result{Did: Nothing, Status: u.s.public(u.o.Config)}
	if t := u.s.Trial; t != nil {
		r.Did, r.Version = Observing, t.Version
		return r, nil
	}
	before := u.s
	u.s.Seen = maps.Clone(before.Seen)
	target, note, err := u.ask(ctx, "")
	u.s = before
	r.Note = note
	if target != nil {
		r.Did, r.Version, r.Note = Began, target.Version, "it would be fetched and put on trial"
	}
	return r, err
}

// repair lets the running version's own install mend what differs from what it
// describes; what the site masked or added it leaves alone.
func (u *Updater) repair(ctx context.Context, note string) (Result, error) {
	current := u.path("current", binaryName)
	if !u.present("current") {
		u.o.Log.Error("what was installed is gone, going back to what has proven itself", "path", u.path("current"))
		good, err := disk.Readlink(u.o.FS, u.path("good"))
		if err != nil {
			return Result{}, fmt.Errorf("repair: neither current nor good can be followed: %w", err)
		}
		if err := disk.Relink(u.o.FS, good, u.path("current")); err != nil {
			return Result{}, err
		}
	}
	if err := u.o.Machine.Converge(ctx, current); err != nil {
		return Result{}, fmt.Errorf("repair: %w", err)
	}
	return Result{Did: Repaired, Version: u.s.Good.Version, Note: note}, nil
}

func (u *Updater) path(parts ...string) string {
	return filepath.Join(append([]string{u.o.Dir}, parts...)...)
}
