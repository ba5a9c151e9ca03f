// Package update keeps a machine on the release that it is offered, and in the state that
// the release describes. docs/updates.md describes it for people.
//
// A run does one step from durable state: it looks for a release, fetches it, puts it on
// trial, or checks the current trial (judge.go). `current` always points to a complete version that
// has run: one rename switches it, and the intent is durable before, so that a reboot,
// power cut or kill anywhere only repeats a step. `good` is the last version that passed
// its trial. It runs this code and checks the next version; a rollback switches `current`
// to it and runs its install, which restores its units.
//
// Rejected are releases without a trusted signature, older ones than the same key signed
// before, ones for another platform, and ones that failed here before. An unreachable
// receiver never causes a rollback: only the new version's own behaviour counts.
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

// Source is where releases come from: the receiver, or, on the receiver itself, its folder
// of releases.
type Source interface {
	// Look returns the offer for this machine, ErrNothing if there is none, or ErrUnchanged
	// if it still has the given tag.
	Look(ctx context.Context, tag string) (o wire.Offer, newTag string, err error)
	// Blob returns a file from an offset on. If packed is set, the source may return the
	// compressed file; the offset is then one in that.
	Blob(ctx context.Context, d ident.Digest, offset int64, packed bool) (Content, error)
}

// Content is a part of a file.
type Content struct {
	io.ReadCloser
	From   int64 // the offset, which may be lower than the requested one
	Packed bool  // compressed; see manifest.Unpack
}

// The results of Look without an offer.
var (
	ErrNothing   = errors.New("no release is offered to this machine")
	ErrUnchanged = errors.New("the offer has not changed")
)

// Machine contains what an update does to the machine, besides its own files.
type Machine interface {
	// Prepare verifies content by its digest and writes it, durably, to target.
	Prepare(content io.Reader, target string, d ident.Digest) error
	// SelfTest runs an unused binary and returns the version that it reports.
	SelfTest(ctx context.Context, binary string) (version.Info, error)
	// Converge runs the binary's own install for each role, and returns what it changed.
	Converge(ctx context.Context, binary string) ([]string, error)
	// Restart restarts the daemons when install fails.
	Restart(ctx context.Context) error
	// Units returns the state of the daemons.
	Units(ctx context.Context) ([]Daemon, error)
	// Examine runs the running version's doctor, and reads the queue.
	Examine(ctx context.Context, current string) Findings
	// Boot returns the boot id.
	Boot() string
	// Logs returns the units' logs since a time.
	Logs(ctx context.Context, since time.Time) []byte
	// Report reports to the receiver, if it is reachable.
	Report(ctx context.Context, good string)
}

// Options describe a machine to update.
type Options struct {
	FS  disk.FS
	Dir string // /opt/cis490
	// Command is the symlink that units start, /usr/local/bin/cis490; "" means none.
	Command string
	Source  Source // nil: unknown, so the machine is only repaired
	Machine Machine
	// Keys returns the public keys from enrollment, for the first use. Later keys come from
	// releases alone.
	Keys func() (string, error)
	// Gated reports whether the gate rejects this version's recordings; nil on a machine
	// that records nothing.
	Gated  func(ctx context.Context) bool
	OS     string
	Arch   string
	Config config.Update
	Now    func() time.Time
	// Pause waits between two checks during the watch; it ends with ctx.
	Pause func(ctx context.Context, d time.Duration)
	Log   *slog.Logger
}

// Result is the result of a run.
type Result struct {
	Did     Did          `json:"did"`
	Version string       `json:"version,omitempty"` // the version concerned
	Note    string       `json:"note,omitempty"`    // why nothing more was done
	Changes []string     `json:"changes,omitempty"` // of a repair
	Status  *wire.Update `json:"status"`
}

// Did is what a run did.
type Did string

// The values of Did.
const (
	Nothing    Did = "nothing new"
	Repaired   Did = "nothing new; the machine is as its version describes"
	Mended     Did = "nothing new; repaired the machine"
	Began      Did = "began a trial"
	Observing  Did = "trial goes on"
	Proved     Did = "trial ended well"
	RolledBack Did = "rolled back"
)

// Updater updates one machine.
type Updater struct {
	o Options
	s State
}

// New returns the updater of a machine. The caller holds the lock that installs share.
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
	if err := u.load(); err != nil {
		return nil, err
	}
	if p, err := ReadPublic(o.FS, o.Dir); u.s.Good.Digest == "" && err == nil && p != nil {
		for _, b := range p.RolledBack { // failed versions, from the public file
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
		//off:11_PowerCutUpdate
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

// Check returns what a run would do, without changes.
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
		r.Did, r.Version, r.Note = Began, target.Version, "a run would fetch it and put it on trial"
	}
	return r, err
}

// repair runs the current version's own install, which fixes differences from its state. It
// leaves the site's masks and drop-ins alone.
func (u *Updater) repair(ctx context.Context, note string) (Result, error) {
	current := u.path("current", binaryName)
	if !u.present("current") {
		u.o.Log.Error("the current version is missing; going back to the good one", "path", u.path("current"))
		good, err := disk.Readlink(u.o.FS, u.path("good"))
		if err != nil {
			return Result{}, fmt.Errorf("repair: cannot read current or good: %w", err)
		}
		if err := disk.Relink(u.o.FS, good, u.path("current")); err != nil {
			return Result{}, err
		}
	}
	changes, err := u.o.Machine.Converge(ctx, current)
	if err != nil {
		return Result{}, fmt.Errorf("repair: %w", err)
	}
	r := Result{Did: Repaired, Version: u.s.Good.Version, Note: note, Changes: changes}
	if len(changes) > 0 {
		r.Did = Mended
	}
	return r, nil
}

func (u *Updater) path(parts ...string) string {
	return filepath.Join(append([]string{u.o.Dir}, parts...)...)
}
