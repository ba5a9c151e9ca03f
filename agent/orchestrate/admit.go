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
	// gateFile, in the episodes' folder, keeps the gate's last word, so that a
	// host that was refused does not record again because it was restarted
	// while the receiver is away.
	gateFile = ".gate"
	// gateFor is how long a yes is believed before the gate is asked again.
	gateFor = 5 * time.Minute
	// askAgain is how long after a gate that was not reached it is asked again.
	askAgain = time.Minute
	// askFor bounds one asking.
	askFor = 30 * time.Second
	// waitAgain is the pause before what kept a slot from recording is looked
	// at again.
	waitAgain = 30 * time.Second
)

// admit returns why no episode may begin now, or nil.
func (r *Orchestrator) admit(ctx context.Context) error {
	if err := r.gate.ask(ctx); err != nil {
		return err
	}
	free, err := r.o.FS.Free(r.episodes)
	if err != nil {
		return err
	}
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

// waiting returns the bytes of recorded episodes and of tarballs that are not
// shipped. Where the outbox is closed to this user, what is packed is left to
// the disk reserve.
func (r *Orchestrator) waiting() (int64, error) {
	var sum int64
	episodes, err := r.o.FS.ReadDir(r.episodes)
	if err != nil {
		return 0, fmt.Errorf("look at waiting episodes: %w", err)
	}
	for _, e := range episodes {
		if _, err := ident.ParseEpisodeID(e.Name()); err == nil && e.IsDir() {
			n, err := sizes(r.o.FS, filepath.Join(r.episodes, e.Name()))
			if err != nil {
				return 0, fmt.Errorf("look at waiting episodes: %w", err)
			}
			sum += n
		}
	}
	n, err := sizes(r.o.FS, filepath.Join(r.o.DataDir, "outbox"))
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return 0, fmt.Errorf("look at the outbox: %w", err)
	}
	return sum + n, nil
}

// sizes sums the files of a folder; what vanishes meanwhile was shipped.
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

// gatekeeper asks the gate and remembers its word.
type gatekeeper struct {
	gate   Gate
	commit ident.Commit
	fsys   disk.FS
	path   string
	now    func() time.Time
	log    *slog.Logger

	mu   sync.Mutex
	last word
	read bool
}

// word is what the gate last said, as it is kept.
type word struct {
	Commit  ident.Commit `json:"commit"`
	At      time.Time    `json:"at"`
	Verdict wire.Verdict `json:"verdict"`
}

// ask returns nil if recording is worth while: the gate's last word was yes, or
// it has not spoken yet and cannot be reached. After a no it is asked at every
// call, and no silence of the receiver turns it into a yes.
func (g *gatekeeper) ask(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.read {
		g.recall()
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
		g.last = word{g.commit, g.now().UTC(), v}
		if changed {
			g.keep()
		}
	case known && !g.last.Verdict.Accepted:
		return g.refusal(fmt.Sprintf("; it cannot be asked now: %v", err))
	default:
		g.log.Warn("gate not reached, recording all the same", "err", err)
		// Not asked again at once, as asking may take its time to fail.
		g.last = word{g.commit, g.now().Add(askAgain - gateFor).UTC(), wire.Verdict{Accepted: true, Reason: "not reached"}}
		return nil
	}
	if !v.Accepted {
		return g.refusal("")
	}
	return nil
}

func (g *gatekeeper) refusal(more string) error {
	return fault.Fix(fmt.Errorf("the gate does not take commit %s: %s%s", g.commit, g.last.Verdict.Reason, more),
		"nothing on this host: autoupdate fetches the release that is taken; to take this commit, on the receiver: gate.extra_commits in /etc/cis490/receiver.toml")
}

func (g *gatekeeper) recall() {
	g.read = true
	b, err := disk.ReadFile(g.fsys, g.path, 1<<16)
	if err == nil {
		err = json.Unmarshal(b, &g.last)
	}
	if err != nil {
		g.last = word{}
		if !errors.Is(err, fs.ErrNotExist) {
			g.log.Warn("gate's last word is lost", "path", g.path, "err", err)
		}
	}
}

func (g *gatekeeper) keep() {
	b, err := json.Marshal(g.last)
	if err == nil {
		err = disk.ReplaceBytes(g.fsys, g.path, filePerm, append(b, '\n'))
	}
	if err != nil {
		g.log.Warn("gate's last word is not kept", "path", g.path, "err", err)
	}
}
