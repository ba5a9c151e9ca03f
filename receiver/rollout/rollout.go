// Package rollout decides which release each host is offered. A release goes first to the
// receiver itself, then to one host, to one in four, and to all.
//
// A release advances when the trials of its stage succeeded, by the hosts' pings. It is
// withdrawn when the canary, or later two hosts, rolled it back. The progress is stored in
// rollout.json before it takes effect, so that a restart continues from it. People's orders
// come through orders.jsonl. The package has no signing key: it offers releases that were
// signed elsewhere, or nothing. A release does not advance while the result of a trial is
// not known.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"cis490/internal/clock"
	"cis490/internal/ident"
	rel "cis490/internal/manifest"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
)

// stepEvery is how often orders and reports are evaluated.
const stepEvery = 2 * time.Second

// allPing is the time in which every running host has pinged.
const allPing = 7 * time.Minute

// maxOwn bounds how many of the receiver's former commits stay accepted.
const maxOwn = 20

// Options describe a rollout.
type Options struct {
	Releases    receiver.Releases
	SilentAfter time.Duration // hosts without a ping for longer do not count
	Build       version.Info  // of this receiver
	// Own returns the receiver's own update status; nil if it has no automatic updates.
	// Then a person has to promote a release from the first stage.
	Own func() (*wire.Update, error)
	// Known returns the hosts' last reports before this start; nil: there are none. After
	// an error the rollout waits until the hosts had time to ping.
	Known func() (map[ident.Host]Report, error)
	Now   func() time.Time
	Clock func() clock.Reading // to notice its jumps; nil: Now alone
	Poll  time.Duration        // shortest interval between two steps; 0: two seconds
	// Lease gives this receiver the right to advance releases; without it, it offers what another
	// one decided. Nil: there is one receiver.
	Lease func() (io.Closer, error)
	Log   *slog.Logger
}

// Report is the content of a host's last ping.
type Report struct {
	At       time.Time
	OS, Arch string
	Update   *wire.Update
	Ailing   bool // hard checks fail
	Leaving  bool
}

// Controller advances releases. Its methods may be called from many goroutines.
type Controller struct {
	o Options

	mu          sync.Mutex
	state       state
	list        []rel.Published // newest first
	orders      []rel.Order
	seen        string // version of the orders that were read
	hosts       map[ident.Host]Report
	unread      error     // why the releases could not be read yet; nil once they were
	warmupUntil time.Time // before this time a silent host is not evidence: it had no time to ping
	last        string    // error that was logged last
	line        clock.Line
	lease       io.Closer // nil: another receiver advances releases
	loaded      []byte    // the document of which state is
}

// state is rollout.json with the fields that only serve needs.
type state struct {
	rel.Rollout
	// Own are the commits that this receiver ran, the newest last. They stay accepted, so
	// that hosts which still run one can ship.
	Own []ident.Commit `json:"own_commits,omitempty"`
}

// Open reads the releases and their progress. If they cannot be read, nothing is offered
// or changed, and each Step tries again.
func Open(o Options) *Controller {
	if o.Clock == nil {
		o.Clock = clock.Wall(o.Now)
	}
	r := &Controller{o: o, hosts: map[ident.Host]Report{}}
	r.line.Advance(o.Clock())
	if o.Known != nil {
		known, err := o.Known()
		if err != nil {
			r.warmupUntil = o.Now().Round(0).Add(allPing)
		}
		maps.Copy(r.hosts, known)
	}
	// Nothing is written yet: another serve may hold the folder.
	if r.unread = r.load(); r.unread != nil {
		o.Log.Error("cannot read releases", "err", r.unread)
	}
	return r
}

// load reads the releases and their progress. A damaged rollout.json is replaced by an
// empty one: the hosts' pings bring back the progress, and until then no further host is
// offered a release.
func (r *Controller) load() error {
	r.state = state{Rollout: rel.Rollout{V: 1}}
	b, err := r.o.Releases.LoadRollout()
	_, unreadable := errors.AsType[*fs.PathError](err)
	unreadable = unreadable || errors.Is(err, receiver.ErrUnavailable) || errors.Is(err, receiver.ErrUnready)
	if unreadable && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.loaded = b
	if err == nil {
		err = json.Unmarshal(b, &r.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("cannot decode rollout.json; starting with an empty one", "err", err)
		r.state = state{Rollout: rel.Rollout{V: 1}}
	}
	return r.read()
}

// Run calls Step periodically until ctx ends.
func (r *Controller) Run(ctx context.Context) error {
	tick := time.NewTicker(max(stepEvery, r.o.Poll))
	defer tick.Stop()
	for {
		r.Step()
		select {
		case <-ctx.Done():
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.resign()
		case <-tick.C:
		}
	}
}

// Ping records the ping of a host whose identity was verified.
func (r *Controller) Ping(h ident.Host, p wire.Ping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Report{At: r.o.Now().Round(0), OS: p.OS, Arch: p.Arch, Update: p.Update, Ailing: len(p.Failing) > 0, Leaving: p.Leaving}
	if old := r.hosts[h]; p.OS == "" { // the ping of a host that leaves is shorter
		t.OS, t.Arch, t.Update = old.OS, old.Arch, old.Update
	}
	r.hosts[h] = t
}

// Learn records what a host reported to another receiver.
func (r *Controller) Learn(h ident.Host, t Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.At.After(r.hosts[h].At) {
		r.hosts[h] = t
	}
}

// Offer returns the release that a host should run; false if there is none. It may be
// called for unverified clients, because it has no side effects and releases are public.
func (r *Controller) Offer(goos, arch string, h ident.Host) (rel.Published, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.list {
		if _, ok := p.Manifest.For(goos, arch); ok && offers(r.state.Of(p.Manifest.Seq), h) {
			return p, true
		}
	}
	return rel.Published{}, false
}

// Version returns the version that a host should run, or "".
func (r *Controller) Version(goos, arch string, h ident.Host) string {
	p, ok := r.Offer(goos, arch, h)
	if !ok {
		return ""
	}
	return p.Manifest.Version
}

// Commits returns the commits whose episodes are accepted: those of all published
// releases, withdrawn ones included, and those that this receiver ran. It returns an error
// if they are not known yet, which differs from an empty list.
func (r *Controller) Commits() ([]ident.Commit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	//off:03_EmptyList
	if r.unread != nil {
		return nil, r.unread
	}
	all := slices.Clone(r.state.Own)
	for _, p := range r.list {
		all = append(all, p.Manifest.Commit)
	}
	return all, nil
}

// Blocked returns the commits that a person blocked with a withdrawal.
func (r *Controller) Blocked() []ident.Commit {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ident.Commit
	for _, p := range r.state.Releases {
		if p.Blocked {
			all = append(all, p.Commit)
		}
	}
	return all
}
