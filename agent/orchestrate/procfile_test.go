package orchestrate

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
)

// The parser agrees with the procfs library, for a sleeping process whose name has many
// brackets and spaces.
func TestProcReader_ReadsWhatProcfsReads(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a) S 1 (b")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // killed
	defer cmd.Process.Kill()          //nolint:errcheck // it may have ended
	pid := cmd.Process.Pid
	p, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	// It sleeps: its numbers do not change.
	for {
		before, err := p.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if after, err := p.Stat(); err == nil && after == before && before.State == "S" && before.Comm == filepath.Base(name) {
			break
		}
	}
	s, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	counts, err := p.IO()
	if err != nil {
		t.Fatal(err)
	}
	open, err := p.FileDescriptorsLen()
	if err != nil {
		t.Fatal(err)
	}
	r := procReader{proc: "/proc", kept: map[procFile]int{}}
	if _, err := r.stat(pid); err != nil {
		t.Fatal(err)
	}
	got, err := r.stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	want := procStat{
		comm: s.Comm, state: s.State, ppid: s.PPID, threads: s.NumThreads, start: s.Starttime,
		minflt: uint64(s.MinFlt), majflt: uint64(s.MajFlt), vsize: uint64(s.VirtualMemory()), rss: int64(s.ResidentMemory()),
		utime: int64(s.UTime), stime: int64(s.STime), cutime: int64(s.CUTime), cstime: int64(s.CSTime),
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(procStat{})); diff != "" {
		t.Errorf("stat (-procfs +ours):\n%s", diff)
	}
	io, err := r.io(pid)
	if err != nil {
		t.Fatal(err)
	}
	wantIO := &ioCounts{
		ReadChars: int64(counts.RChar), WriteChars: int64(counts.WChar), ReadCalls: int64(counts.SyscR),
		WriteCalls: int64(counts.SyscW), Read: int64(counts.ReadBytes), Write: int64(counts.WriteBytes),
	}
	if diff := cmp.Diff(wantIO, io); diff != "" {
		t.Errorf("io (-procfs +ours):\n%s", diff)
	}
	if got := r.descriptors(pid); got != open {
		t.Errorf("%d descriptors, want %d", got, open)
	}
}

// The files of an ended process are not those of the next one with its id.
func TestProcReader_KeepsFilesOfOneProcess(t *testing.T) {
	r := procReader{proc: "/proc", kept: map[procFile]int{}}
	before := openFiles(t)
	run := func() int {
		cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one uses what the first one opened
			if s, err := r.stat(cmd.Process.Pid); err != nil || s.ppid != os.Getpid() {
				t.Errorf("stat %+v, %v", s, err)
			}
			if n := r.descriptors(cmd.Process.Pid); n == 0 {
				t.Error("no descriptors")
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		return cmd.Process.Pid
	}
	ended, next := run(), run()
	if _, err := r.stat(ended); !gone(err) {
		t.Errorf("an ended process: %v", err)
	}
	r.kept[procFile{os.Getpid(), "stat"}] = r.kept[procFile{next, "stat"}] // as if its id had a new process
	delete(r.kept, procFile{next, "stat"})
	if s, err := r.stat(os.Getpid()); err != nil || s.ppid != os.Getppid() {
		t.Errorf("a new process with a known id: %+v, %v", s, err)
	}
	r.keepOnly(func(int) bool { return false })
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A process of several threads, each of which may have children: this test's own.
func TestProcReader_FindsChildrenOfEveryThread(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // killed
	defer cmd.Process.Kill()          //nolint:errcheck // it may have ended
	tree := newTree("/proc")
	all, err := tree.below(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(all, cmd.Process.Pid) {
		t.Errorf("%d is not among %v", cmd.Process.Pid, all)
	}
}
