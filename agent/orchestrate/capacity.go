package orchestrate

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"cis490/internal/episode"
	"cis490/internal/experiment"
)

const (
	// coresPerSlot and memoryPerSlot keep the machine's own signal readable: a
	// host with as many recordings as cores shows its scheduler, not the
	// workloads. diskPerSlot is room beyond the reserve for what one writes.
	coresPerSlot  = 2
	memoryPerSlot = 1 << 30
	diskPerSlot   = 512 << 20
	// beatEvery is how often a recording shows that it goes on.
	beatEvery = time.Second
	// stuckAfter is how long a busy slot may show nothing before the watchdog
	// is no longer fed. Ending a tree takes a grace and a kill, writing a slow
	// disk: less than this.
	stuckAfter = 2 * time.Minute
)

// slots returns how many episodes are recorded at the same time.
func (r *Orchestrator) slots() int {
	n := r.o.MaxSlots
	if n == 0 {
		free, err := r.o.FS.Free(r.episodes)
		if err != nil {
			free = 0 // told before each episode, where it matters
		}
		n = room{runtime.NumCPU(), memory(r.fs), free - r.o.DiskReserve}.slots(r.o.Experiment.Profiles)
	}
	if ceiling := r.o.Experiment.MaxSlots; ceiling > 0 {
		n = min(n, ceiling)
	}
	return n
}

// room is what a host has for recordings.
type room struct {
	cores        int
	memory, disk int64 // bytes that could be used now
}

// slots returns how many of the most demanding profile there is room for; at least
// one. A machine takes its own on top of what every slot does.
func (r room) slots(profiles []experiment.Profile) int {
	cores, bytes := coresPerSlot, int64(memoryPerSlot)
	for _, p := range profiles {
		c, m := p.Demands()
		cores, bytes = max(cores, c+1), max(bytes, m+memoryPerSlot/2)
	}
	return int(max(1, min(int64(r.cores/cores), r.memory/bytes, r.disk/diskPerSlot)))
}

// memory returns the bytes that could be used now, 0 if it is unknown.
func memory(fs procfs.FS) int64 {
	m, err := fs.Meminfo()
	if err != nil || m.MemAvailableBytes == nil {
		return 0
	}
	return int64(min(*m.MemAvailableBytes, math.MaxInt64))
}

// loadMeter measures what the machine bears between two moments.
type loadMeter struct {
	fs          procfs.FS
	busy, total float64 // seconds of all cores since boot
}

func newLoadMeter(fs procfs.FS) loadMeter {
	m := loadMeter{fs: fs}
	m.busy, m.total = m.times()
	return m
}

func (m loadMeter) times() (busy, total float64) {
	s, err := m.fs.Stat()
	if err != nil {
		return 0, 0
	}
	c := s.CPUTotal
	busy = c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
	return busy, busy + c.Idle + c.Iowait
}

func (m loadMeter) read(slots int) episode.Load {
	l := episode.Load{Cores: runtime.NumCPU(), Slots: slots}
	if busy, total := m.times(); total > m.total {
		l.Busy = (busy - m.busy) / (total - m.total)
	}
	if avg, err := m.fs.LoadAvg(); err == nil {
		l.Load1 = avg.Load1
	}
	return l
}

// beat is when a slot last showed that it goes on; waiting counts as going on.
type beat struct{ last atomic.Int64 }

const waitingForWork = -1

func newBeat() *beat {
	b := &beat{}
	b.idle()
	return b
}

func (b *beat) idle() { b.last.Store(waitingForWork) }
func (b *beat) busy() { b.last.Store(time.Now().UnixNano()) }

func (b *beat) stuck(now time.Time) bool {
	last := b.last.Load()
	return last != waitingForWork && now.Sub(time.Unix(0, last)) > stuckAfter
}

// watch feeds the service manager's watchdog while no slot is stuck.
func (r *Orchestrator) watch(ctx context.Context) {
	if r.o.Notify == nil {
		return
	}
	for sleep(ctx, watchEvery) {
		stuck := false
		for slot, b := range r.beats {
			if b.stuck(time.Now()) {
				stuck = true
				r.o.Log.Error("slot is stuck", "slot", slot)
			}
		}
		if !stuck {
			r.o.Notify("WATCHDOG=1")
		}
	}
}

// watchEvery is how often the watchdog is fed; the unit allows 180 seconds.
const watchEvery = 20 * time.Second

// sleep waits, and tells whether the context is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
