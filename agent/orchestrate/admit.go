package orchestrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

const (
	// gateFile, in episodes/, stores the gate's last answer, so that a rejected commit does
	// not record again after a restart while the receiver is down.
	gateFile = ".gate"
	// gateFor is how long an acceptance is valid before the gate is asked again.
	gateFor = 5 * time.Minute
	// askAgain is the pause before another request after a failed one.
	askAgain = time.Minute
	// askFor bounds one request.
	askFor = 30 * time.Second
	// waitAgain is the pause of a slot that may not record, before it checks again.
	waitAgain = 30 * time.Second
)

// Admit returns nil if an episode may begin now, else the reason.
func (r *Orchestrator) Admit(ctx context.Context) error {
	//off:02_LocalCommit
	if err := r.gate.ask(ctx); err != nil {
		return err
	}
	free, err := r.o.FS.Free(r.episodes)
	if err != nil {
		return err
	}
	//off:13_HostDiskFull
	if free < r.o.DiskReserve {
		return fault.Fix(fmt.Errorf("%s free on the disk of %s, less than the reserve of %s", size(free), r.o.DataDir, size(r.o.DiskReserve)),
			"free space on this machine, or lower orchestrate.disk_reserve; 'cis490 status' shows what waits to be shipped")
	}
	waiting, err := r.waiting()
	if err != nil {
		return err
	}
	if waiting > r.o.OutboxLimit {
		return fault.Fix(fmt.Errorf("%s of episodes wait to be shipped, more than the limit of %s", size(waiting), size(r.o.OutboxLimit)),
			"sudo cis490 doctor   # why the outbox does not empty; or raise orchestrate.outbox_limit")
	}
	return nil
}

func size(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// waiting returns the bytes of episodes and tarballs that are not shipped yet. If this user
// cannot read the outbox, only the disk reserve limits the tarballs.
func (r *Orchestrator) waiting() (int64, error) {
	var sum int64
	episodes, err := r.o.FS.ReadDir(r.episodes)
	if err != nil {
		return 0, fmt.Errorf("list waiting episodes: %w", err)
	}
	for _, e := range episodes {
		if _, err := ident.ParseEpisodeID(e.Name()); err == nil && e.IsDir() {
			n, err := sizes(r.o.FS, filepath.Join(r.episodes, e.Name()))
			if err != nil {
				return 0, fmt.Errorf("list waiting episodes: %w", err)
			}
			sum += n
		}
	}
	n, err := sizes(r.o.FS, filepath.Join(r.o.DataDir, "outbox"))
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("list the outbox: %w", err)
	}
	return sum + n, nil
}

// sizes returns the total size of a folder's files. Files that vanish meanwhile were
// shipped.
func sizes(fsys disk.FS, dir string) (int64, error) {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range files {
		if fi, err := f.Info(); err == nil {
			sum += fi.Size()
		}
	}
	return sum, nil
}

// gatekeeper asks the gate and remembers its answer.
type gatekeeper struct {
	gate   Gate
	commit ident.Commit
	fsys   disk.FS
	path   string
	now    func() time.Time
	log    *slog.Logger

	mu   sync.Mutex
	last answer
	read bool
}

// answer is the gate's last answer, as stored in gateFile.
type answer struct {
	Commit  ident.Commit `json:"commit"`
	At      time.Time    `json:"at"`
	Verdict wire.Verdict `json:"verdict"`
}

// ask returns nil if the gate's last answer was an acceptance, or if there is none yet and
// the gate cannot be reached. After a rejection it asks at every call; an unreachable
// receiver does not change the rejection.
func (g *gatekeeper) ask(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.read {
		g.load()
	}
	known := g.last.Commit == g.commit
	if age := g.now().Sub(g.last.At); known && g.last.Verdict.Accepted && age >= 0 && age < gateFor {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	v, err := g.gate.Gate(ctx, g.commit)
	switch {
	case err == nil:
		changed := !known || v.Accepted != g.last.Verdict.Accepted
		g.last = answer{g.commit, g.now().UTC(), v}
		if changed {
			g.save()
		}
	case known && !g.last.Verdict.Accepted:
		return g.refusal(fmt.Sprintf("; it cannot be reached now: %v", err))
	default:
		g.log.Warn("cannot reach the gate; recording anyway", "err", err)
		// Wait before the next request, because a request may take long to fail.
		g.last = answer{g.commit, g.now().Add(askAgain - gateFor).UTC(), wire.Verdict{Accepted: true, Reason: "not reached"}}
		return nil
	}
	if !v.Accepted {
		return g.refusal("")
	}
	return nil
}

func (g *gatekeeper) refusal(more string) error {
	return fault.Fix(fmt.Errorf("the gate rejects commit %s: %s%s", g.commit, g.last.Verdict.Reason, more),
		"nothing on this host: autoupdate installs an accepted release; to accept this commit, on the receiver: "+
			"gate.extra_commits in /etc/cis490/receiver.toml")
}

func (g *gatekeeper) load() {
	g.read = true
	b, err := disk.ReadFile(g.fsys, g.path, 1<<16)
	if err == nil {
		err = json.Unmarshal(b, &g.last)
	}
	if err != nil {
		g.last = answer{}
		if !errors.Is(err, fs.ErrNotExist) {
			g.log.Warn("cannot read the gate's last answer", "path", g.path, "err", err)
		}
	}
}

func (g *gatekeeper) save() {
	b, err := json.Marshal(g.last)
	if err == nil {
		err = disk.ReplaceBytes(g.fsys, g.path, filePerm, append(b, '\n'))
	}
	if err != nil {
		g.log.Warn("cannot save the gate's last answer", "path", g.path, "err", err)
	}
}
