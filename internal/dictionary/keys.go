package dictionary

import "slices"

// Origins of values.
const (
	procStat  = "proc_pid_stat(5)"
	procIO    = "proc_pid_io(5)"
	schedstat = "Linux: Documentation/scheduler/sched-stats.rst"
	psi       = "Linux: Documentation/accounting/psi.rst"
	qemuStats = "QEMU QMP reference: query-blockstats"
	adjtimex  = "adjtimex(2)"
	osRelease = "os-release(5)"
)

// stamps are the keys that begin every row.
func stamps() []Key {
	return []Key{
		{
			Name: "t_wall_ns", Type: Integer, Unit: "ns", Kind: Gauge, Since: 1,
			Text: "wall clock, since the Unix epoch; it may step", Origin: "clock_gettime(2)",
		},
		{
			Name: "t_mono_ns", Type: Integer, Unit: "ns", Kind: Gauge, Since: 1,
			Text: "time since the episode's origin, the same in all its files; it never steps", Origin: "clock_gettime(2)",
		},
	}
}

func head(source string) []Key {
	return append(stamps(), Key{Name: "source", Type: String, Since: 1, Text: "always `" + source + "`"})
}

func labelKeys() []Key {
	return append(stamps(),
		Key{Name: "phase", Type: String, Since: 1, Text: "the phase that begins; `failed` from the moment when the recording failed"},
		Key{
			Name: "class", Type: String, Optional: true, Since: 2,
			Text: "class of the phase: `benign`, `malicious` or another word of the experiment; absent if it has none, and with `failed`",
		},
		Key{Name: "event", Type: String, Since: 1, Text: "the event that began it, in events.jsonl at the same time"})
}

func eventKeys() []Key {
	return append(stamps(),
		Key{Name: "source", Type: String, Since: 1, Text: "who reported it: `workload`, `orchestrate`, or a telemetry source"},
		Key{Name: "event", Type: String, Since: 1, Text: "its name"},
		Key{Name: "detail", Type: String, Optional: true, Since: 1, Text: "free text"},
		Key{
			Name: "use", Type: String, Optional: true, Since: 1,
			Text: "effect of a workload's event: `began`, `ended`, `failed`, `doubled`, `early`, `late` or `note`",
		})
}

// ioKeys are the counts of a process or of all of them.
func ioKeys(at, whose string) []Key {
	counter := func(name, unit, text string) Key {
		return Key{Name: at + name, Type: Integer, Unit: unit, Kind: Counter, Since: 1, Text: text, Origin: procIO}
	}
	return []Key{
		{
			Name: at[:len(at)-1], Type: Object, Optional: true, Since: 1,
			Text: "input and output of " + whose + "; absent if the kernel does not report it", Origin: procIO,
		},
		counter("rchar", "bytes", "read by system calls, caches and pipes included"),
		counter("wchar", "bytes", "written by system calls, caches and pipes included"),
		counter("syscr", "calls", "system calls that read"),
		counter("syscw", "calls", "system calls that write"),
		counter("read_bytes", "bytes", "fetched from storage"),
		counter("write_bytes", "bytes", "sent to storage"),
	}
}

func procKeys() []Key {
	gauge := func(name, unit, text, origin string) Key {
		return Key{Name: name, Type: Integer, Unit: unit, Kind: Gauge, Since: 1, Text: text, Origin: origin}
	}
	counter := func(name, unit, text, origin string) Key {
		return Key{Name: name, Type: Integer, Unit: unit, Kind: Counter, Since: 1, Text: text, Origin: origin}
	}
	return slices.Concat(head("proc"), []Key{
		gauge("processes", "processes", "number of processes", ""),
		gauge("threads", "threads", "number of threads of all processes", procStat),
		counter("user_ms", "ms", "user CPU time of the whole tree since its start, ended processes included; a multiple of 10", procStat),
		counter("system_ms", "ms", "system CPU time of the whole tree since its start, ended processes included; a multiple of 10", procStat),
		gauge("rss_bytes", "bytes", "sum of the processes' resident memory; shared pages count in each", procStat),
		gauge("fds", "descriptors", "open file descriptors of all processes", "proc_pid_fd(5)"),
	}, ioKeys("io.", "the whole tree since its start, ended processes included"), []Key{
		{Name: "procs", Type: List, Since: 1, Text: "each process of this moment; empty before and after the command"},
		gauge("procs[].pid", "", "process id", procStat),
		gauge("procs[].ppid", "", "parent's process id", procStat),
		gauge("procs[].start_ticks", "ticks", "start since boot, at 100 ticks a second; identifies the process together with its id", procStat),
		{Name: "procs[].comm", Type: String, Since: 1, Text: "name, at most 15 bytes, chosen by the process", Origin: procStat},
		{
			Name: "procs[].state", Type: String, Since: 1,
			Text: "state, one letter: R running, S sleeping, D waiting for a disk, Z ended …", Origin: procStat,
		},
		counter("procs[].user_ms", "ms", "user CPU time, without children", procStat),
		counter("procs[].system_ms", "ms", "system CPU time, without children", procStat),
		gauge("procs[].threads", "threads", "number of threads", procStat),
		gauge("procs[].rss_bytes", "bytes", "resident memory", procStat),
		gauge("procs[].vsize_bytes", "bytes", "virtual memory", procStat),
		counter("procs[].minflt", "faults", "page faults that needed no disk", procStat),
		counter("procs[].majflt", "faults", "page faults that needed a disk", procStat),
		gauge("procs[].fds", "descriptors", "open file descriptors", "proc_pid_fd(5)"),
		counter("procs[].run_ns", "ns", "time on a CPU, of the main thread", schedstat),
		counter("procs[].wait_ns", "ns", "time waiting for a CPU, of the main thread", schedstat),
		counter("procs[].slices", "slices", "time slices, of the main thread", schedstat),
	}, ioKeys("procs[].io.", "the process"))
}

func pressureKeys() []Key {
	stall := func(name, text string) Key {
		return Key{Name: name, Type: Integer, Unit: "us", Kind: Counter, Since: 1, Text: text + ", since boot", Origin: psi}
	}
	return append(head("pressure"),
		stall("cpu_some_us", "time in which at least one task of the machine waited for a CPU"),
		stall("memory_some_us", "time in which at least one task waited for memory"),
		stall("memory_full_us", "time in which all tasks waited for memory"),
		stall("io_some_us", "time in which at least one task waited for a disk"),
		stall("io_full_us", "time in which all tasks waited for a disk"))
}

func qmpKeys() []Key {
	sum := func(name, unit, text string) Key {
		return Key{
			Name: "blocks[]." + name, Type: Integer, Unit: unit, Kind: Counter, Since: 1,
			Text: text + ", since the machine's start", Origin: qemuStats,
		}
	}
	return append(head("qmp"),
		Key{
			Name: "status", Type: String, Since: 1,
			Text: "the machine's run state, such as `running`", Origin: "QEMU QMP reference: query-status",
		},
		Key{Name: "running", Type: Boolean, Since: 1, Text: "whether its CPUs run", Origin: "QEMU QMP reference: query-status"},
		Key{
			Name: "balloon_bytes", Type: Integer, Unit: "bytes", Kind: Gauge, Since: 1,
			Text: "memory that the guest has at present", Origin: "QEMU QMP reference: query-balloon",
		},
		Key{Name: "blocks", Type: List, Since: 1, Text: "each disk of the machine", Origin: qemuStats},
		Key{Name: "blocks[].device", Type: String, Since: 1, Text: "its name", Origin: qemuStats},
		sum("read_bytes", "bytes", "read by the guest"),
		sum("write_bytes", "bytes", "written by the guest"),
		sum("reads", "calls", "read operations"),
		sum("writes", "calls", "write operations"),
		sum("flushes", "calls", "flushes of the disk's cache"),
		sum("read_ns", "ns", "time spent on reads"),
		sum("write_ns", "ns", "time spent on writes"))
}
