// Package rollout decides which host is offered which release: the
// receiver itself first, then one host, one in four, all.
//
// A release moves on by itself when the trials of a stage ended well, as hosts
// tell it in their pings, and is withdrawn when the canary, or later two hosts,
// rolled it back. How far each one came is in rollout.json, written before it is
// acted upon, so that a restart goes on from there; what people order comes to it
// through orders.jsonl. It holds no key and makes nothing up: it offers what was
// signed elsewhere, or nothing. It refuses to go on while it has not heard of a
// trial's end.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
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

// stepEvery is how soon an order or a report counts.
const stepEvery = 2 * time.Second

// allPing is within what time every host that is on has told of itself.
const allPing = 7 * time.Minute

// maxOwn bounds how many of the receiver's former commits stay accepted.
const maxOwn = 20

// Options describe a rollout.
type Options struct {
	Releases    receiver.Releases
	SilentAfter time.Duration // a host that was silent for longer takes no part
	Build       version.Info  // of this receiver
	// Own tells how this machine's own updates stand; nil where nothing keeps it
	// up to date, and a person promotes.
	Own func() (*wire.Update, error)
	// Known returns what hosts told before this start; nil is nothing. While it
	// cannot be told, they are waited for.
	Known func() (map[ident.Host]Report, error)
	Now   func() time.Time
	Clock func() clock.Reading // to notice its jumps; nil: Now alone
	Poll  time.Duration        // shortest interval between two steps; 0: two seconds
	Log   *slog.Logger
}

// Report is what a host said of itself last.
type Report struct {
	At       time.Time
	OS, Arch string
	Update   *wire.Update
	Ailing   bool // hard checks fail
	Leaving  bool
}

// Controller is the live state. Its methods may be called from many goroutines.
type Controller struct {
	o Options

	mu          sync.Mutex
	state       state
	list        []rel.Published // newest first
	orders      []rel.Order
	seen        string // version of the orders, as they were read
	hosts       map[ident.Host]Report
	unread      error     // why it is not known yet what was published; nil once it was read
	warmupUntil time.Time // until then hosts may be unheard that have something to say
	last        string    // failure that was logged
	line        clock.Line
}

// state is rollout.json with what only serve needs of it.
type state struct {
	rel.Rollout
	// Own are the commits that this receiver ran, latest last: hosts that joined
	// with one of them go on shipping while the receiver is ahead of them.
	Own []ident.Commit `json:"own_commits,omitempty"`
}

// Open reads how far releases came. While a disk does not let it, nothing is known,
// offered or changed, and every Step tries again.
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

// load reads how far releases came, and which there are. A damaged rollout.json is
// begun anew: hosts tell again what they run, and nothing is offered to more of them
// meanwhile.
func (r *Controller) load() error {
	r.state = state{Rollout: rel.Rollout{V: 1}}
	b, err := r.o.Releases.LoadRollout()
	if _, unreadable := errors.AsType[*fs.PathError](err); unreadable && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		err = json.Unmarshal(b, &r.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Error("cannot read the rollout; it begins anew", "err", err)
		r.state = state{Rollout: rel.Rollout{V: 1}}
	}
	return r.read()
}

// Run keeps the rollout going until ctx ends.
func (r *Controller) Run(ctx context.Context) error {
	tick := time.NewTicker(max(stepEvery, r.o.Poll))
	defer tick.Stop()
	for {
		r.Step()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Ping takes in what a host told, whose identity was verified.
func (r *Controller) Ping(h ident.Host, p wire.Ping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := Report{At: r.o.Now().Round(0), OS: p.OS, Arch: p.Arch, Update: p.Update, Ailing: len(p.Failing) > 0, Leaving: p.Leaving}
	if old := r.hosts[h]; p.OS == "" { // a farewell says less
		t.OS, t.Arch, t.Update = old.OS, old.Arch, old.Update
	}
	r.hosts[h] = t
}

// Offer returns what a host should run, and its seq; false where that is nothing.
// Who asks is not verified: nothing here is secret, and nothing is noted.
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

// Version returns the version that a host should run, "" if none is offered.
func (r *Controller) Version(h ident.Host) string {
	r.mu.Lock()
	t := r.hosts[h]
	r.mu.Unlock()
	p, ok := r.Offer(t.OS, t.Arch, h)
	if !ok {
		return ""
	}
	return p.Manifest.Version
}

// Commits returns the commits whose episodes are taken: of every release that was
// published, also of those withdrawn, and of what this receiver ran itself. An error
// tells that they are not known yet, which is not that there are none.
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

// Blocked returns the commits that a person put outside the gate.
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
