package orchestrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procReader reads files of processes in a mounted procfs. It makes few system calls and
// reuses one buffer: ten reads a second for every process of a slot must cost less than a
// percent of a core.
type procReader struct {
	proc string
	buf  []byte
	// kept are the descriptors of files that are read again; nil: none is kept. A descriptor
	// belongs to the process, not to its id: when that has ended, reads fail with ESRCH.
	kept map[procFile]int
}

// procFile is a file of a process.
type procFile struct {
	pid  int
	name string
}

// lasts reports whether the file exists as long as the process. Those of its threads do not,
// except for the main thread.
func (f procFile) lasts() bool {
	thread, ok := strings.CutPrefix(f.name, "task/")
	return !ok || strings.HasPrefix(thread, strconv.Itoa(f.pid)+"/")
}

// maxKept bounds the descriptors of one recording.
const maxKept = 256

// read returns the content of a process's file, valid until the next read.
func (r *procReader) read(pid int, name string) (content []byte, err error) {
	err = r.with(pid, name, unix.O_RDONLY, func(fd int) error {
		content, err = r.readAll(fd)
		return err
	})
	return content, err
}

// longestItem is the length of an item of a list that the kernel never splits, in bytes.
const longestItem = 64

// readAll reads a file from its start. The kernel fills a buffer as long as the next item
// fits (seq_read in fs/seq_file.c), so that more room means the end.
func (r *procReader) readAll(fd int) ([]byte, error) {
	for n := 0; ; {
		if len(r.buf)-n <= longestItem {
			r.buf = append(r.buf, make([]byte, 4<<10)...)
		}
		more, err := unix.Pread(fd, r.buf[n:], int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case more == 0, n+more < len(r.buf)-longestItem:
			return r.buf[:n+more], nil
		default:
			n += more
		}
	}
}

// folder describes a process's folder.
func (r *procReader) folder(pid int, name string) (st unix.Stat_t, err error) {
	err = r.with(pid, name, unix.O_PATH, func(fd int) error { return unix.Fstat(fd, &st) })
	return st, err
}

// with calls do with a descriptor of a process's file, and again with a new one if that of
// an ended process was kept: its id may have a new process.
func (r *procReader) with(pid int, name string, flags int, do func(fd int) error) error {
	file := procFile{pid, name}
	if fd, ok := r.kept[file]; ok {
		err := do(fd)
		if !gone(err) {
			return err
		}
		r.drop(file)
	}
	fd, err := unix.Open(r.path(pid, name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if r.kept != nil && len(r.kept) < maxKept && file.lasts() {
		r.kept[file] = fd
	} else {
		defer unix.Close(fd) //nolint:errcheck // read-only
	}
	return do(fd)
}

func (r *procReader) drop(file procFile) {
	_ = unix.Close(r.kept[file]) // read-only
	delete(r.kept, file)
}

// keepOnly closes the files of other processes.
func (r *procReader) keepOnly(kept func(pid int) bool) {
	for file := range r.kept {
		if !kept(file.pid) {
			r.drop(file)
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
	if st, err := r.folder(pid, "fd"); err == nil && st.Size > 0 {
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
	st, err := r.folder(pid, "task")
	if err != nil {
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
		b, err := r.read(pid, "task/"+thread+"/children")
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
