package orchestrate

import (
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// processSource samples the command's process tree from /proc.
const processSource = "proc"

// tickMS is a clock tick of /proc in milliseconds. USER_HZ is 100 on every architecture
// that this program is built for.
const tickMS = 10

// processRow is a row of telemetry-proc.jsonl: the process tree at one moment. CPU times and
// the counts of io are sums since the command's start, and include processes that began and
// ended between two rows; the other fields are current values.
type processRow struct {
	head
	Processes int           `json:"processes"`
	Threads   int           `json:"threads"`
	UserMS    int64         `json:"user_ms"`
	SystemMS  int64         `json:"system_ms"`
	RSS       int64         `json:"rss_bytes"`
	FDs       int           `json:"fds"`
	IO        *ioCounts     `json:"io,omitempty"` // absent if the kernel does not report it
	Procs     []processStat `json:"procs"`        // empty before and after the command
}

// ioCounts are bytes and calls; Read and Write count bytes that reached the disks.
type ioCounts struct {
	ReadChars  int64 `json:"rchar"`
	WriteChars int64 `json:"wchar"`
	ReadCalls  int64 `json:"syscr"`
	WriteCalls int64 `json:"syscw"`
	Read       int64 `json:"read_bytes"`
	Write      int64 `json:"write_bytes"`
}

// processStat is one process. Its times exclude its children's. The scheduler's counts are
// those of its main thread.
type processStat struct {
	PID      int       `json:"pid"`
	PPID     int       `json:"ppid"`
	Start    uint64    `json:"start_ticks"` // since boot; with the pid it identifies the process
	Command  string    `json:"comm"`
	State    string    `json:"state"`
	UserMS   int64     `json:"user_ms"`
	SystemMS int64     `json:"system_ms"`
	Threads  int       `json:"threads"`
	RSS      int64     `json:"rss_bytes"`
	Virtual  uint64    `json:"vsize_bytes"`
	MinorFlt uint64    `json:"minflt"`
	MajorFlt uint64    `json:"majflt"`
	FDs      int       `json:"fds"`
	RunNS    uint64    `json:"run_ns"`
	WaitNS   uint64    `json:"wait_ns"`
	Slices   uint64    `json:"slices"`
	IO       *ioCounts `json:"io,omitempty"`
}

// processCollector samples the tree below a supervisor. When a parent waits for a process
// that ended, the kernel adds its times and bytes to the parent's; the topmost parent is
// the supervisor. So even short processes are counted.
type processCollector struct {
	tree *tree
	fs   procfs.FS
	root int

	last   map[int]uint64 // start times of the last row's processes, by id
	base   *ioCounts      // the supervisor's own counts before the command
	cuser  int64
	csys   int64
	begun  bool
	user   int64 // the last row's sums, which never decrease
	system int64
	io     ioCounts
}

func (c *processCollector) sample(at stamp) (any, error) {
	pids, err := c.tree.below(c.root)
	if err != nil {
		return nil, err
	}
	row := processRow{head: head{at.wall, at.mono, processSource}, Procs: []processStat{}}
	// Read from the top down: a parent's counts of its children are then older than the
	// children's own counts, so nothing is counted twice. A process that ends meanwhile is
	// missing in one row; max and atLeast keep the sums from falling then.
	user, system, io, err := c.supervisor()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		p, kids, err := c.read(pid)
		if err != nil {
			if gone(err) {
				continue // ended between two reads
			}
			return nil, err
		}
		user += p.UserMS + kids[0]
		system += p.SystemMS + kids[1]
		if p.IO != nil {
			io.add(*p.IO, 1)
		}
		row.Threads += p.Threads
		row.RSS += p.RSS
		row.FDs += p.FDs
		row.Procs = append(row.Procs, p)
	}
	c.user, c.system = max(c.user, user), max(c.system, system)
	row.UserMS, row.SystemMS = c.user, c.system
	if c.base != nil {
		c.io.atLeast(io)
		sum := c.io
		row.IO = &sum
	}
	row.Processes = len(row.Procs)
	c.last = make(map[int]uint64, len(row.Procs))
	for _, p := range row.Procs {
		c.last[p.PID] = p.Start
	}
	c.tree.keepOnly(func(pid int) bool { return pid == c.root || c.last[pid] != 0 })
	return row, nil
}

// close closes what the collector keeps open.
func (c *processCollector) close() { c.tree.keepOnly(func(int) bool { return false }) }

// kill kills the last row's processes and their descendants when the supervisor is gone.
// main is the command itself, which may have started after the last row. A reused pid is
// not killed.
func (c *processCollector) kill(main int) {
	if p, err := c.fs.Proc(main); err == nil && c.last[main] == 0 {
		if s, err := p.Stat(); err == nil && s.Session == main {
			c.last[main] = s.Starttime
		}
	}
	for range 50 { // the next round finds new forks
		found := false
		for pid, start := range c.last {
			p, err := c.fs.Proc(pid)
			if err != nil {
				continue
			}
			if s, err := p.Stat(); err != nil || s.Starttime != start || s.State == "Z" {
				continue
			}
			found = true
			all, err := c.tree.below(pid)
			if err != nil {
				all = nil // ended meanwhile
			}
			for _, id := range append(all, pid) {
				_ = unix.Kill(id, unix.SIGKILL) // fails if it has ended
			}
		}
		if !found {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// supervisor returns the counts of ended processes that the supervisor has collected.
func (c *processCollector) supervisor() (user, system int64, io ioCounts, err error) {
	s, err := c.tree.stat(c.root)
	if err != nil {
		return 0, 0, io, err
	}
	own, err := c.tree.io(c.root)
	if err != nil {
		return 0, 0, io, err
	}
	if !c.begun {
		c.begun, c.base = true, own
		c.cuser, c.csys = s.cutime, s.cstime
	}
	if own != nil && c.base != nil {
		io.add(*own, 1)
		io.add(*c.base, -1)
	}
	return (s.cutime - c.cuser) * tickMS, (s.cstime - c.csys) * tickMS, io, nil
}

// read returns one process, and the user and system milliseconds of its collected children.
func (c *processCollector) read(pid int) (processStat, [2]int64, error) {
	s, err := c.tree.stat(pid)
	if err != nil {
		return processStat{}, [2]int64{}, err
	}
	r := processStat{
		PID: pid, PPID: s.ppid, Start: s.start, Command: s.comm, State: s.state,
		UserMS: s.utime * tickMS, SystemMS: s.stime * tickMS, Threads: s.threads,
		RSS: s.rss, Virtual: s.vsize, MinorFlt: s.minflt, MajorFlt: s.majflt,
		FDs: c.tree.descriptors(pid),
	}
	r.RunNS, r.WaitNS, r.Slices = c.tree.sched(pid)
	r.IO, err = c.tree.io(pid)
	return r, [2]int64{s.cutime * tickMS, s.cstime * tickMS}, err
}

func (c *ioCounts) add(o ioCounts, sign int64) {
	c.ReadChars += sign * o.ReadChars
	c.WriteChars += sign * o.WriteChars
	c.ReadCalls += sign * o.ReadCalls
	c.WriteCalls += sign * o.WriteCalls
	c.Read += sign * o.Read
	c.Write += sign * o.Write
}

// atLeast raises each count to at least that of o.
func (c *ioCounts) atLeast(o ioCounts) {
	c.ReadChars = max(c.ReadChars, o.ReadChars)
	c.WriteChars = max(c.WriteChars, o.WriteChars)
	c.ReadCalls = max(c.ReadCalls, o.ReadCalls)
	c.WriteCalls = max(c.WriteCalls, o.WriteCalls)
	c.Read = max(c.Read, o.Read)
	c.Write = max(c.Write, o.Write)
}
