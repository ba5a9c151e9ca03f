package orchestrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// procReader reads files of processes in a mounted procfs. It makes half the system calls
// of os.ReadFile, which tries to poll each file, and reuses one buffer. Ten reads a second
// for every process of a slot must cost less than a percent of a core.
type procReader struct {
	proc string
	buf  []byte
}

// read returns the content of a process's file, valid until the next read.
func (r *procReader) read(pid int, name string) ([]byte, error) {
	fd, err := unix.Open(r.path(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // read-only
	for n := 0; ; {
		if n == len(r.buf) {
			r.buf = append(r.buf, make([]byte, 4<<10)...)
		}
		more, err := unix.Read(fd, r.buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case more == 0:
			return r.buf[:n], nil
		default:
			n += more
		}
	}
}

func (r *procReader) path(pid int, name string) string {
	return r.proc + "/" + strconv.Itoa(pid) + "/" + name
}

// stat parses proc_pid_stat(5).
func (r *procReader) stat(pid int) (s procStat, err error) {
	b, err := r.read(pid, "stat")
	if err != nil {
		return s, err
	}
	// The name may contain anything, including brackets and spaces.
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if begin < 0 || end < begin {
		return s, fmt.Errorf("read stat of process %d: no name in %q", pid, b)
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 22 {
		return s, fmt.Errorf("read stat of process %d: %d fields", pid, len(fields))
	}
	s.comm, s.state = string(b[begin+1:end]), string(fields[0])
	// Fields are numbered as in the manual; the state is the third.
	field := func(n int) int64 {
		v, e := strconv.ParseInt(string(fields[n-3]), 10, 64)
		err = errors.Join(err, e)
		return v
	}
	s.ppid, s.threads, s.start = int(field(4)), int(field(20)), uint64(field(22))
	s.minflt, s.majflt = uint64(field(10)), uint64(field(12))
	s.utime, s.stime, s.cutime, s.cstime = field(14), field(15), field(16), field(17)
	s.vsize, s.rss = uint64(field(23)), field(24)*int64(os.Getpagesize())
	return s, err
}

// procStat holds the recorded part of proc_pid_stat(5): times in ticks, sizes in bytes.
type procStat struct {
	comm, state                  string
	ppid, threads                int
	start                        uint64
	minflt, majflt, vsize        uint64
	utime, stime, cutime, cstime int64
	rss                          int64
}

// io returns nil if the counts are unavailable.
func (r *procReader) io(pid int) (*ioCounts, error) {
	b, err := r.read(pid, "io")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c ioCounts
	for i, into := range []*int64{&c.ReadChars, &c.WriteChars, &c.ReadCalls, &c.WriteCalls, &c.Read, &c.Write} {
		_, rest, _ := bytes.Cut(b, []byte(": "))
		value, next, ok := bytes.Cut(rest, []byte("\n"))
		if *into, err = strconv.ParseInt(string(value), 10, 64); err != nil || !ok {
			return nil, fmt.Errorf("read io of process %d: line %d of %q", pid, i+1, b)
		}
		b = next
	}
	return &c, nil
}

// sched returns the time on a CPU and waiting for one, in nanoseconds, and the number of
// time slices. All are 0 for a zombie or a kernel without schedstat.
func (r *procReader) sched(pid int) (run, wait, slices uint64) {
	b, err := r.read(pid, "schedstat")
	if err != nil {
		return 0, 0, 0
	}
	var v [3]uint64
	for i, f := range bytes.Fields(b) {
		if i < len(v) {
			v[i], _ = strconv.ParseUint(string(f), 10, 64) // the kernel's own numbers
		}
	}
	return v[0], v[1], v[2]
}

// descriptors returns the number of open descriptors, 0 if the process has ended.
func (r *procReader) descriptors(pid int) int {
	var st unix.Stat_t
	if unix.Stat(r.path(pid, "fd"), &st) == nil && st.Size > 0 {
		return int(st.Size) // since Linux 6.2
	}
	open, err := os.ReadDir(r.path(pid, "fd"))
	if err != nil {
		return 0
	}
	return len(open)
}

// threads returns the ids of a process's threads.
func (r *procReader) threads(pid int) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Stat(r.path(pid, "task"), &st); err != nil {
		return nil, err
	}
	if st.Nlink == 3 { // itself, its parent, and one thread, which has the process's id
		return []string{strconv.Itoa(pid)}, nil
	}
	dir, err := unix.Open(r.path(pid, "task"), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir) //nolint:errcheck // read-only
	var names []string
	for buf := make([]byte, 4<<10); ; {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// children returns the children of all of a process's threads.
func (r *procReader) children(pid int) ([]int, error) {
	threads, err := r.threads(pid)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, thread := range threads {
		b, err := r.read(pid, filepath.Join("task", thread, "children"))
		if err != nil {
			if gone(err) {
				continue
			}
			return nil, err
		}
		for field := range bytes.FieldsSeq(b) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				all = append(all, child)
			}
		}
	}
	return all, nil
}
