// Package gate decides which code commits may ship: the receiver's
// own, every published release's and extra_commits, but not blocked_commits.
//
// The list follows the config file and the releases while serve runs. An edit
// that cannot be read keeps the last good list and is logged; before a list was
// ever read there is no verdict, which is not a refusal. The gate refuses to
// guess: a commit that it does not know is not accepted.
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

// refreshEvery is how soon an edit of the config file counts.
const refreshEvery = 2 * time.Second

// ErrNotLoaded tells that no list was read yet.
var ErrNotLoaded = errors.New("the gate's list is not loaded yet")

// Options describe a gate.
type Options struct {
	Own  ident.Commit // of this receiver's build; empty for a build without one
	FS   disk.FS      // that has the file; nil is the machine's
	Path string       // the config file that is followed
	// Released returns the commits of the published releases; nil is none.
	Released func() ([]ident.Commit, error)
	// Blocked returns the commits that were blocked beside the config's; nil is none.
	Blocked func() []ident.Commit
	Poll    time.Duration // shortest interval between two looks at the file; 0: two seconds
	Log     *slog.Logger
}

// Gate is the live list. Its methods may be called from many goroutines.
type Gate struct {
	o    Options
	list atomic.Pointer[Rules]

	mu     sync.Mutex // guards what follows, held while refreshing
	seen   fs.FileInfo
	config config.Gate
	failed error // why the last refresh took nothing over
}

// Rules are what the gate goes by at one moment; they are part of the policy.
type Rules struct {
	Enabled  bool           `json:"enabled"`
	Head     ident.Commit   `json:"head"`
	Accepted []ident.Commit `json:"accepted"` // ordered
	Blocked  []ident.Commit `json:"blocked"`  // ordered
}

// New returns a gate that was not loaded yet; see Refresh.
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

// Refresh takes over what changed in the config file and among the releases.
func (g *Gate) Refresh() {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.refresh()
	if err != nil && (g.failed == nil || g.failed.Error() != err.Error()) { // once, not every two seconds
		g.o.Log.Error("gate keeps its last list", "path", g.o.Path, "err", err)
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
	r := Rules{Enabled: g.config.Enabled, Head: g.o.Own, Accepted: slices.Clone(g.config.ExtraCommits), Blocked: slices.Clone(g.config.BlockedCommits)}
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
	slices.Sort(r.Accepted)
	slices.Sort(r.Blocked)
	r.Accepted, r.Blocked = slices.Compact(r.Accepted), slices.Compact(r.Blocked)
	before := g.list.Swap(&r)
	if before == nil || before.Enabled != r.Enabled || !slices.Equal(before.Accepted, r.Accepted) || !slices.Equal(before.Blocked, r.Blocked) {
		g.o.Log.Info("gate loaded", "enabled", r.Enabled, "accepted", len(r.Accepted), "blocked", len(r.Blocked))
	}
	return nil
}

// Rules returns what the gate goes by now; before the first list an ErrNotLoaded
// that tells what keeps it.
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

// Judge returns the verdict on a commit; ErrNotLoaded before the first list.
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
