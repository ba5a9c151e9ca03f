package orchestrate

import (
	"errors"

	"github.com/prometheus/procfs"
)

// pressureSource samples the stalls of the whole machine. They show how much other load may
// have affected the process tree.
const pressureSource = "pressure"

// pressureRow is a row of telemetry-pressure.jsonl: the time since boot, in microseconds,
// in which some or all tasks waited for a resource.
type pressureRow struct {
	head
	CPUSome    uint64 `json:"cpu_some_us"`
	MemorySome uint64 `json:"memory_some_us"`
	MemoryFull uint64 `json:"memory_full_us"`
	IOSome     uint64 `json:"io_some_us"`
	IOFull     uint64 `json:"io_full_us"`
}

type pressureCollector struct{ fs procfs.FS }

func (c pressureCollector) sample(at stamp) (any, error) {
	cpu, e1 := c.fs.PSIStatsForResource("cpu")
	memory, e2 := c.fs.PSIStatsForResource("memory")
	io, e3 := c.fs.PSIStatsForResource("io")
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, err
	}
	total := func(l *procfs.PSILine) uint64 {
		if l == nil {
			return 0
		}
		return l.Total
	}
	return pressureRow{
		head:    head{at.wall, at.mono, pressureSource},
		CPUSome: total(cpu.Some), MemorySome: total(memory.Some), MemoryFull: total(memory.Full),
		IOSome: total(io.Some), IOFull: total(io.Full),
	}, nil
}
