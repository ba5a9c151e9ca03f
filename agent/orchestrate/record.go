package orchestrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/experiment"
	"cis490/internal/ident"
)

// The permissions of an episode: the shipper gets access through its group, which comes
// from the setgid bit of the parent folder.
const (
	dirPerm  = 0o770
	filePerm = 0o660
)

// workDir, in episodes/, holds the working folder of each slot.
const workDir = ".work"

// errAbandoned is returned for a recording that was stopped early.
var errAbandoned = errors.New("recording abandoned")

// outputFor is how long to wait for a failed command's last output, which another goroutine
// reads from a pipe.
const outputFor = 200 * time.Millisecond

// drainFor is how long to wait for a command's last events. They are in the socket already,
// but a busy machine may read them late.
const drainFor = 250 * time.Millisecond

// recording is an episode being recorded.
type recording struct {
	*Orchestrator
	id      ident.EpisodeID
	profile experiment.Profile
	counter uint64
	slot    int
	beat    func()

	dir, work string
	clock     *clock
	reports   chan report
	samplers  []*sampler
	processes *processCollector
	monitor   *monitor // nil for a command
	load      loadMeter
	beside    int32 // slots recording at the start, including this one
	notes     []string
	inputs    []episode.Input
}

// note adds a sentence to meta.json.
func (r *recording) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// record records one episode. On an error, or when the context ends, it removes the
// episode; otherwise the episode is complete and durable.
func (r *recording) record(ctx context.Context) (meta episode.Meta, err error) {
	defer func() {
		if clean := removeWork(r.work); clean != nil {
			r.o.Log.Warn("remove working folder", "path", r.work, "err", clean)
		}
		if err != nil {
			err = errors.Join(err, r.remove())
		}
	}()
	if err := r.prepare(); err != nil {
		return meta, err
	}
	r.inputs = r.facts.inputs(ctx, r.profile)
	r.reports = make(chan report, 256)
	r.clock = newClock(r.o.Now)
	r.load, r.beside = newLoadMeter(r.fs), r.busy.Load()
	meta = r.meta()
	line, left, err := r.run(ctx)
	if err != nil {
		return meta, err
	}
	meta.End = r.o.Now().UTC()
	r.judge(&meta, line, left)
	return meta, r.finish(meta, line)
}

// prepare makes the folders. Without done.marker the episode counts as incomplete.
func (r *recording) prepare() error {
	if err := removeWork(r.work); err != nil {
		return fmt.Errorf("clear working folder: %w", err)
	}
	if err := os.MkdirAll(r.work, 0o700); err != nil {
		return fmt.Errorf("make working folder: %w", err)
	}
	// The setgid bit is inherited; the service may not set it (RestrictSUIDSGID).
	return disk.MkdirAll(r.o.FS, r.dir, dirPerm)
}

// run runs the command until its last process has ended.
func (r *recording) run(ctx context.Context) (line *timeline, left int, err error) {
	socket := filepath.Join(r.work, "events")
	events, err := listen(socket, r.clock, r.reports)
	if err != nil {
		return nil, 0, err
	}
	argv, err := r.argv(ctx, socket)
	var w *workload
	if err == nil {
		w, err = spawn(command{supervisor: r.o.Supervisor, argv: argv, dir: r.work, events: socket, child: events.child})
	}
	if err != nil {
		events.close()
		r.monitor.close()
		return nil, 0, err
	}
	events.started()
	sampling, stopSampling := context.WithCancel(context.Background())
	failed, sampled := r.sample(sampling, w.pid)

	// The command starts after this, so all its events have later stamps.
	line = newTimeline(r.profile, r.clock.stamp())
	if err = w.start(); err == nil {
		if w.unconfined != "" {
			r.note("the command could reach beyond its folder: %s", w.unconfined)
		}
		err = r.follow(ctx, line, w, events, failed)
	}
	stopSampling()
	rest := make(chan struct{})
	go func() { // reports need a reader until they are closed
		defer close(rest)
		for rep := range r.reports {
			r.apply(line, rep)
		}
	}()
	sampled.Wait() // the last row needs the supervisor
	r.processes.close()
	left, stopErr := w.stop(r.profile.Grace.D())
	if stopErr != nil {
		r.processes.kill(w.main)
	}
	events.close()
	r.monitor.close()
	close(r.reports)
	<-rest
	close(failed)
	for sampleErr := range failed {
		err = errors.Join(err, sampleErr)
	}
	return line, left, errors.Join(err, stopErr)
}

// argv returns the profile's command, or that of its machine, which also gets a monitor.
func (r *recording) argv(ctx context.Context, events string) ([]string, error) {
	if r.profile.Machine == nil {
		return r.profile.Command, nil
	}
	qmp := filepath.Join(r.work, "qmp")
	argv, note, err := r.machines.argv(ctx, *r.profile.Machine, events, qmp)
	if err != nil {
		return nil, err
	}
	if note != "" {
		r.note("%s", note)
	}
	r.monitor, err = newMonitor(qmp, r.clock, r.reports)
	return argv, err
}

// sample starts the collectors. It returns when each has its first row, except those that
// wait for the command. Their errors arrive on failed.
func (r *recording) sample(ctx context.Context, root int) (failed chan error, done *sync.WaitGroup) {
	c := r.profile.Collectors
	r.processes = &processCollector{tree: newTree(r.o.Proc), fs: r.fs, root: root, last: map[int]uint64{}}
	r.processes.tree.kept = map[procFile]int{}
	r.samplers = []*sampler{
		{collector: r.processes, source: processSource, hz: c.ProcHz, required: true},
		{collector: pressureCollector{r.fs}, source: pressureSource, hz: c.PressureHz},
	}
	if r.monitor != nil {
		r.samplers = append(r.samplers, &sampler{collector: r.monitor, source: qmpSource, hz: c.QMPHz, connect: r.monitor.connect})
	}
	failed, done = make(chan error, len(r.samplers)), &sync.WaitGroup{}
	var begun sync.WaitGroup
	for _, s := range r.samplers {
		s.clock, s.fsys, s.dir, s.out, s.beat = r.clock, r.o.FS, r.dir, r.reports, r.beat
		begun.Add(1)
		s.start = sync.OnceFunc(begun.Done)
		done.Go(func() {
			if err := s.run(ctx); err != nil {
				failed <- err
			}
		})
	}
	begun.Wait()
	return failed, done
}

// follow turns events into labels until the recording is over.
func (r *recording) follow(ctx context.Context, line *timeline, w *workload, events *listener, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !line.over {
		r.beat()
		if err := r.room(); err != nil {
			return err
		}
		timer.Reset(min(time.Until(r.clock.at(line.deadline())), beatEvery))
		select {
		case <-ctx.Done():
			return errAbandoned
		case err := <-failed:
			return err
		case rep := <-r.reports:
			r.apply(line, rep)
		case end := <-w.ended:
			return r.exited(ctx, line, end, w, events)
		case <-timer.C:
			line.tick(r.clock.stamp())
		}
	}
	return nil
}

// room returns an error if the command fills the disk: half of the reserve stays for the
// shipper and the system.
func (r *recording) room() error {
	free, err := r.o.FS.Free(r.episodes)
	if err != nil {
		return err
	}
	if free < r.o.DiskReserve/2 {
		return fmt.Errorf("the disk filled up to %s free while the command ran; half of the reserve is %s",
			size(free), size(r.o.DiskReserve/2))
	}
	return nil
}

// exited handles the end of the command, after its last events.
func (r *recording) exited(ctx context.Context, line *timeline, end ending, w *workload, events *listener) error {
	at := r.clock.stamp()
	if end.signaled {
		// A stop of the service signals the workload and the recorder together.
		select {
		case <-ctx.Done():
			return errAbandoned
		case <-time.After(drainFor):
		}
	}
	drained := make(chan struct{})
	go func() {
		events.drain(drainFor)
		r.monitor.drain(drainFor)
		close(drained)
	}()
	for open := true; open || len(r.reports) > 0; {
		select {
		case rep := <-r.reports:
			if rep.at.mono > at.mono { // sent before the end, read after it
				rep.at = at
			}
			r.apply(line, rep)
		case <-drained:
			open, drained = false, nil
		}
	}
	how := end.how
	if !end.clean {
		if last := w.output.wait(outputFor); last != "" {
			how += "; its last output: " + last
		}
	}
	line.exit(at, how, end.clean)
	return nil
}

func (r *recording) apply(line *timeline, rep report) {
	if rep.source == sourceWorkload {
		line.workload(rep.at, rep.event, rep.detail)
	} else {
		line.note(rep.at, rep.source, rep.event, rep.detail)
	}
}
