// Package orchestrate records episodes: it runs the commands of an experiment, samples
// their processes, and labels the samples by the events that the commands report. A
// collector is a source of rows; sample.go has its interface.
//
// An episode with done.marker is complete and durable, no phase begins because of a
// clock, and no process that a command starts outlives its episode. A crash may leave
// incomplete episodes without done.marker, which the next start removes; their processes
// end when the supervisor's pipe to the recorder closes. Nothing is recorded without a
// commit, after a rejection by the gate, or below the disk reserve, because the receiver
// would reject the episode, or the disk could not hold it. The package ships nothing and
// needs no credentials.
package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/experiment"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Gate reports whether the receiver accepts recordings of a commit.
type Gate interface {
	Gate(ctx context.Context, commit ident.Commit) (wire.Verdict, error)
}

// FS is a file system to record on.
type FS interface {
	disk.FS
	disk.Space
	disk.Locker
}

// Options configure an Orchestrator. All fields are required unless their comment
// explains the zero value.
type Options struct {
	FS          FS
	DataDir     string // contains episodes/
	Host        ident.Host
	Build       version.Info
	Experiment  experiment.Experiment
	Gate        Gate
	MaxSlots    int           // 0: as many as the machine's resources allow
	Rest        time.Duration // between two episodes of a slot
	DiskReserve int64         // bytes
	OutboxLimit int64         // bytes
	// Supervisor is the argument list with which this program runs Supervise; a profile's
	// command follows it.
	Supervisor []string
	Proc       string    // the mounted procfs; "" is /proc
	Entropy    io.Reader // for episode ids
	Now        func() time.Time
	Log        *slog.Logger
	// Notify sends "READY=1" and "WATCHDOG=1" to the service manager. It may be nil.
	Notify func(state string)
}

// Orchestrator records episodes into one data folder.
type Orchestrator struct {
	o           Options
	episodes    string
	fs          procfs.FS
	gate        *gatekeeper
	counter     counter
	machines    *hypervisor
	facts       *facts
	busy        atomic.Int32 // slots that are recording
	beats       []*beat
	throttle    *throttle
	wakesInTime func(ctx context.Context, hz float64) bool
}

// New checks that this program can record at all: the build has a commit and the machine a
// /proc. It fails with exit code 78, because a restart would not help.
func New(o Options) (*Orchestrator, error) {
	if o.Build.Commit == "" {
		return nil, fault.Exit(fault.Fix(errors.New("this build has no commit, so a receiver would reject its recordings: recording nothing"),
			"install a released cis490 ('cis490 version' must show a commit), or build it in a git checkout with: make build"), fault.Config)
	}
	if o.Proc == "" {
		o.Proc = procfs.DefaultMountPoint
	}
	proc, err := procfs.NewFS(o.Proc)
	if err != nil {
		return nil, fault.Exit(fmt.Errorf("record from /proc: %w", err), fault.Config)
	}
	r := &Orchestrator{o: o, episodes: filepath.Join(o.DataDir, "episodes"), fs: proc, machines: newHypervisor(), facts: newFacts()}
	r.wakesInTime = func(ctx context.Context, hz float64) bool { return wakesInTime(ctx, hz, time.Now) }
	r.gate = &gatekeeper{gate: o.Gate, commit: o.Build.Commit, fsys: o.FS, path: filepath.Join(r.episodes, gateFile), now: o.Now, log: o.Log}
	r.counter = counter{fsys: o.FS, path: filepath.Join(r.episodes, counterFile)}
	return r, nil
}

// Run records in all slots until the context ends. It returns early only with an error that
// waiting does not fix.
func (r *Orchestrator) Run(ctx context.Context) error {
	unlock, err := r.open()
	if err != nil {
		return err
	}
	defer unlock()
	slots := r.slots()
	r.o.Log.Info("recording", "slots", slots, "experiment", r.o.Experiment.Name, "digest", r.o.Experiment.Digest, "version", r.o.Build.Version)
	r.throttle = newThrottle(slots)
	for range slots {
		r.beats = append(r.beats, newBeat())
	}
	if r.o.Notify != nil {
		r.o.Notify("READY=1")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, slots)
	for slot := range slots {
		wg.Go(func() {
			if errs[slot] = r.fill(ctx, slot); errs[slot] != nil {
				cancel() // an error of one slot stops all
			}
		})
	}
	wg.Go(func() { r.watch(ctx) })
	wg.Wait()
	return errors.Join(errs...)
}

// Once records one episode of the named profile, or of the next profile if the name is "".
func (r *Orchestrator) Once(ctx context.Context, profile string) (episode.Meta, error) {
	unlock, err := r.open()
	if err != nil {
		return episode.Meta{}, err
	}
	defer unlock()
	if wait := r.Admit(ctx); wait != nil {
		return episode.Meta{}, fault.Exit(wait, fault.TempFail)
	}
	r.beats = []*beat{newBeat()}
	return r.one(ctx, 0, profile)
}

// open locks the folder against other recorders and removes incomplete episodes.
func (r *Orchestrator) open() (unlock func(), err error) {
	held, err := r.lock()
	if err != nil {
		return nil, err
	}
	unlock = func() { _ = held.Close() } // a lock holds no data
	if err := r.sweep(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// fill records one episode after another in a slot.
func (r *Orchestrator) fill(ctx context.Context, slot int) error {
	// Stagger the slots, so that their processes do not all start at once.
	pause := time.Duration(slot) * r.o.Rest / time.Duration(len(r.beats))
	hz, crowded := fastest(r.o.Experiment.Profiles), false
	for {
		r.beats[slot].idle()
		if !sleep(ctx, pause) {
			return nil
		}
		if !r.throttle.allows(slot) {
			pause = waitAgain
			continue
		}
		// The first slot records under any load, and meta.json records the load.
		if slot > 0 && !r.wakesInTime(ctx, hz) {
			if !crowded && ctx.Err() == nil {
				r.o.Log.Warn("slot waits: this host wakes its sampler too late", "slot", slot)
			}
			crowded, pause = true, waitAgain
			continue
		}
		crowded = false
		if wait := r.Admit(ctx); wait != nil {
			if ctx.Err() != nil {
				return nil
			}
			r.o.Log.Warn("not recording", "err", wait, "fix", fault.FixOf(wait), "wait", waitAgain)
			pause = waitAgain
			continue
		}
		meta, err := r.one(ctx, slot, "")
		switch {
		case ctx.Err() != nil && errors.Is(err, errAbandoned):
			r.o.Log.Info("recording abandoned", "episode", meta.Episode)
			return nil
		case err != nil:
			r.o.Log.Error("episode not recorded", "episode", meta.Episode, "profile", meta.Profile, "err", err,
				"fix", fault.FixOf(err), "wait", waitAgain)
			pause = waitAgain
		default:
			pause = r.o.Rest
			if before, after := r.throttle.observe(meta); before != after {
				r.o.Log.Warn("adjusted the number of slots to the host's load", "slots", after, "before", before,
					"jitter_p99_us", meta.Sampling[processSource].JitterP99US, "load", meta.Load.Busy)
			}
		}
	}
}

// one records one episode.
func (r *Orchestrator) one(ctx context.Context, slot int, name string) (episode.Meta, error) {
	n, err := r.counter.next()
	if err != nil {
		return episode.Meta{}, err
	}
	profile := choose(r.o.Experiment.Profiles, r.o.Host, n)
	if name != "" {
		var ok bool
		if profile, ok = r.o.Experiment.Profile(name); !ok {
			return episode.Meta{}, fault.Exit(fmt.Errorf("no profile %q in the experiment", name), fault.Usage)
		}
	}
	id, err := ident.NewEpisodeID(r.o.Now(), r.o.Entropy)
	if err != nil {
		return episode.Meta{}, err
	}
	rec := recording{
		Orchestrator: r, id: id, profile: profile, counter: n, slot: slot, beat: r.beats[slot].busy,
		dir: filepath.Join(r.episodes, string(id)), work: filepath.Join(r.episodes, workDir, fmt.Sprint(slot)),
	}
	r.busy.Add(1)
	defer r.busy.Add(-1)
	r.o.Log.Debug("recording started", "episode", id, "profile", profile.Name, "slot", slot)
	meta, err := rec.record(ctx)
	if err != nil {
		meta.Episode, meta.Profile, meta.Verdict = id, profile.Name, episode.Abandoned
		return meta, fmt.Errorf("record episode %s of profile %q: %w", id, profile.Name, err)
	}
	r.o.Log.Info("episode recorded", "episode", id, "profile", profile.Name, "verdict", meta.Verdict, "reason", meta.Reason,
		"dur", meta.End.Sub(meta.Start))
	return meta, nil
}
