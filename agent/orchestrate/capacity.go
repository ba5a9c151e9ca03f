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
	// coresPerSlot and memoryPerSlot limit the slots, because a host with as many
	// recordings as cores measures its scheduler, not the workloads. diskPerSlot is the
	// space beyond the reserve for one recording.
	coresPerSlot  = 2
	memoryPerSlot = 1 << 30
	diskPerSlot   = 512 << 20
	// beatEvery is how often a recording reports progress.
	beatEvery = time.Second
	// stuckAfter is how long a busy slot may make no progress before the watchdog is no
	// longer fed. It is longer than ending a process tree or writing to a slow disk takes.
	stuckAfter = 2 * time.Minute
)

// slots returns how many episodes are recorded at the same time.
func (r *Orchestrator) slots() int {
	n := r.o.MaxSlots
	if n == 0 {
		free, err := r.o.FS.Free(r.episodes)
		if err != nil {
			free = 0 // Admit reports it before each episode
		}
		n = room{runtime.NumCPU(), memory(r.fs), free - r.o.DiskReserve}.slots(r.o.Experiment.Profiles)
	}
	if ceiling := r.o.Experiment.MaxSlots; ceiling > 0 {
		n = min(n, ceiling)
	}
	return n
}

// room is a host's capacity for recordings.
type room struct {
	cores        int
	memory, disk int64 // bytes that could be used now
}

// slots returns how many recordings of the most demanding profile fit; at least one. A
// virtual machine's demands come on top of a slot's.
func (r room) slots(profiles []experiment.Profile) int {
	cores, bytes := coresPerSlot, int64(memoryPerSlot)
	for _, p := range profiles {
		c, m := p.Demands()
		cores, bytes = max(cores, c+1), max(bytes, m+memoryPerSlot/2)
	}
	return int(max(1, min(int64(r.cores/cores), r.memory/bytes, r.disk/diskPerSlot)))
}

// memory returns the available memory in bytes, or 0 if unknown.
func memory(fs procfs.FS) int64 {
	m, err := fs.Meminfo()
	if err != nil || m.MemAvailableBytes == nil {
		return 0
	}
	return int64(min(*m.MemAvailableBytes, math.MaxInt64))
}

// loadMeter measures the machine's load between two moments.
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

// beat is when a slot last made progress. A waiting slot counts as making progress.
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

// sleep waits for d. It returns false if the context ended.
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
