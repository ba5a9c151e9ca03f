// Package gate decides which code commits may ship: the receiver's own, those of published
// releases and extra_commits, without blocked_commits.
//
// The list follows the config file and the releases while serve runs. If an edit cannot be
// read, the gate logs it and keeps the last list. Before the first list it returns
// ErrNotLoaded, which is not a refusal. Unknown commits are not accepted.
//
//storage:files follows the config file
package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// refreshEvery is how soon an edit of the config file takes effect.
const refreshEvery = 2 * time.Second

// ErrNotLoaded reports that no list was read yet.
var ErrNotLoaded = errors.New("the gate's list is not loaded yet")

// Options describe a gate.
type Options struct {
	Own  ident.Commit // of this receiver's build; empty: the build has none
	FS   disk.FS      // nil: the machine's
	Path string       // of the config file
	// Released returns the commits of the published releases; nil: there are none.
	Released func() ([]ident.Commit, error)
	// Blocked returns blocked commits in addition to the config's; nil: there are none.
	Blocked func() []ident.Commit
	// Others returns the rules of other receivers, which judge by the same union; nil: there is
	// one receiver.
	Others func() []Rules
	Poll   time.Duration // shortest interval between two reads of the file; 0: two seconds
	Log    *slog.Logger
}

// Gate is the live list. Its methods may be called from many goroutines.
type Gate struct {
	o    Options
	list atomic.Pointer[Rules]
	own  atomic.Pointer[Rules] // without those of other receivers

	mu     sync.Mutex // held while refreshing; guards the fields below
	seen   fs.FileInfo
	config config.Gate
	failed error // of the last refresh
}

// Rules are the gate's list at one moment. They are part of the policy.
type Rules struct {
	Enabled  bool           `json:"enabled"`
	Head     ident.Commit   `json:"head"`
	Accepted []ident.Commit `json:"accepted"` // sorted
	Blocked  []ident.Commit `json:"blocked"`  // sorted
}

// New returns a gate without a list; Refresh loads it.
func New(o Options) *Gate {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	return &Gate{o: o}
}

// Run refreshes the gate until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	tick := time.NewTicker(max(refreshEvery, g.o.Poll))
	defer tick.Stop()
	for {
		g.Refresh()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Refresh applies changes of the config file and of the releases.
func (g *Gate) Refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.refresh()
	if err != nil && (g.failed == nil || g.failed.Error() != err.Error()) { // once, not every two seconds
		g.o.Log.Error("cannot refresh the gate, keeping its last list", "path", g.o.Path, "err", err)
	}
	g.failed = err
}

func (g *Gate) refresh() error {
	fi, err := disk.Stat(g.o.FS, g.o.Path)
	if err != nil {
		return fmt.Errorf("read gate: %w", err)
	}
	if g.seen == nil || !disk.SameFile(fi, g.seen) || !fi.ModTime().Equal(g.seen.ModTime()) || fi.Size() != g.seen.Size() {
		c, _, err := config.LoadReceiverOn(g.o.FS, g.o.Path)
		if err != nil {
			return fmt.Errorf("read gate: %w", err)
		}
		g.seen, g.config = fi, c.Gate
	}
	c := g.config
	r := Rules{Enabled: c.Enabled, Head: g.o.Own, Accepted: slices.Clone(c.ExtraCommits), Blocked: slices.Clone(c.BlockedCommits)}
	if g.o.Own != "" {
		r.Accepted = append(r.Accepted, g.o.Own)
	}
	if g.o.Released != nil {
		commits, err := g.o.Released()
		if err != nil {
			return fmt.Errorf("read released commits: %w", err)
		}
		r.Accepted = append(r.Accepted, commits...)
	}
	if g.o.Blocked != nil {
		r.Blocked = append(r.Blocked, g.o.Blocked()...)
	}
	r.normalize()
	own := r
	g.own.Store(&own)
	if g.o.Others != nil {
		r = r.with(g.o.Others())
	}
	before := g.list.Swap(&r)
	if before == nil || before.Enabled != r.Enabled || !slices.Equal(before.Accepted, r.Accepted) || !slices.Equal(before.Blocked, r.Blocked) {
		g.o.Log.Info("gate loaded", "enabled", r.Enabled, "accepted", len(r.Accepted), "blocked", len(r.Blocked))
	}
	return nil
}

func (r *Rules) normalize() {
	slices.Sort(r.Accepted)
	slices.Sort(r.Blocked)
	r.Accepted, r.Blocked = slices.Compact(r.Accepted), slices.Compact(r.Blocked)
}

// with returns the union with the rules of other receivers. What one of them blocks is blocked.
func (r Rules) with(others []Rules) Rules {
	r.Accepted, r.Blocked = slices.Clone(r.Accepted), slices.Clone(r.Blocked)
	for _, x := range others {
		r.Enabled = r.Enabled || x.Enabled
		r.Accepted, r.Blocked = append(r.Accepted, x.Accepted...), append(r.Blocked, x.Blocked...)
	}
	r.normalize()
	return r
}

// Own returns the rules of this receiver alone, and its settings of the gate.
func (g *Gate) Own() (Rules, config.Gate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.own.Load(); r != nil {
		return *r, g.config, nil
	}
	return Rules{}, g.config, errors.Join(ErrNotLoaded, g.failed)
}

// Rules returns the present list or, before the first one, ErrNotLoaded with the reason.
func (g *Gate) Rules() (Rules, error) {
	if r := g.list.Load(); r != nil {
		return *r, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		return Rules{}, fmt.Errorf("%w: %w", ErrNotLoaded, g.failed)
	}
	return Rules{}, ErrNotLoaded
}

// Judge returns the verdict on a commit, or ErrNotLoaded before the first list.
func (g *Gate) Judge(c ident.Commit) (wire.Verdict, error) {
	r, err := g.Rules()
	if err != nil {
		return wire.Verdict{}, err
	}
	v := wire.Verdict{HeadCommit: r.Head}
	_, blocked := slices.BinarySearch(r.Blocked, c)
	_, accepted := slices.BinarySearch(r.Accepted, c)
	switch {
	case !r.Enabled:
		v.Accepted, v.Reason = true, "the gate is disabled: every commit is accepted"
	case c == "":
		v.Reason = "the build carries no commit"
	case blocked:
		v.Blocked, v.Reason = true, "the commit is blocked: in blocked_commits, or with its release"
	case accepted:
		v.Accepted = true
	default:
		v.Reason = "the commit is neither the receiver's own, nor a published release's, nor in extra_commits"
	}
	return v, nil
}
