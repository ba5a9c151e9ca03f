package orchestrate_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cis490/agent/orchestrate"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// pids returns the process ids that a workload reported as notes.
func pids(t *testing.T, dir string) []int {
	t.Helper()
	var all []int
	for _, e := range rows[episode.Event](t, filepath.Join(dir, episode.EventsFile)) {
		if e.Event == "pid" {
			all = append(all, number(t, e.Detail))
		}
	}
	return all
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestOnce_EndsWhateverTheCommandLeaves(t *testing.T) {
	t.Parallel()
	// One forks twice into a session of its own with no environment, one ignores SIGTERM,
	// one is stopped.
	o := options(t, profile(`
echo event busy >&3; echo event quiet >&3
(setsid env -i sh -c 'echo event pid $$ >&3; echo $$ >>pids; exec sleep 600' &)
(trap "" TERM; sh -c 'echo event pid $$ >&3; echo $$ >>pids; exec sleep 600' & wait) &
(sh -c 'echo event pid $$ >&3; echo $$ >>pids; kill -STOP $$; exec sleep 600' &)
while [ $(wc -l <pids) -lt 3 ]; do sleep 0.05; done
sleep 0.2`))
	meta, dir := one(t, o)
	if meta.Verdict != episode.Accepted {
		t.Errorf("verdict %s: %s", meta.Verdict, meta.Reason)
	}
	left := pids(t, dir)
	if len(left) != 3 {
		t.Fatalf("%d processes, want 3", len(left))
	}
	for _, pid := range left {
		if alive(pid) {
			t.Errorf("process %d outlived its episode", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if notes := strings.Join(meta.Notes, "; "); !strings.Contains(notes, "processes outlived the recording") {
		t.Errorf("notes %q", notes)
	}
	most := 0
	for _, r := range rows[processRow](t, filepath.Join(dir, episode.TelemetryFile("proc"))) {
		most = max(most, r.Processes)
	}
	if most < 4 {
		t.Errorf("at most %d processes in one row: those that forked away are missing", most)
	}
}

// A workload has the user of its recorder: without confinement it could damage what other
// episodes recorded, or kill its recorder.
func TestOnce_AWorkloadReachesNoFurtherThanItsFolder(t *testing.T) {
	t.Parallel()
	o := options(t, profile(""))
	episodes := filepath.Join(o.DataDir, "episodes")
	const other = "01K00000000000000000000002"
	if err := os.Mkdir(filepath.Join(episodes, other), 0o770); err != nil {
		t.Fatal(err)
	}
	files := []string{
		filepath.Join(episodes, other, episode.DoneMarker), filepath.Join(episodes, other, episode.MetaFile),
		filepath.Join(episodes, ".counter"),
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("7\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	o = withScript(t, o, `
echo event busy >&3; echo event quiet >&3
echo mine >own || exit 9
try() { if "$@" 2>/dev/null; then echo "event reached $*" >&3; fi; }
write() { echo spoilt >"$1"; }
for f in `+strings.Join(files, " ")+`; do try write $f; try rm $f; try mv $f $f.x; done
try mkdir `+episodes+`/new
try rm -r `+episodes+`/`+other+`
try kill -CONT $PPID
try kill -CONT `+strconv.Itoa(os.Getpid())+`
try truncate -s 0 `+files[1]+`
exit 0`)
	meta, dir := one(t, o)
	if strings.Contains(strings.Join(meta.Notes, " "), "Landlock") {
		t.Skip("this kernel cannot confine: ", meta.Notes)
	}
	if meta.Verdict != episode.Accepted {
		t.Errorf("verdict %s: %s", meta.Verdict, meta.Reason)
	}
	for _, e := range rows[episode.Event](t, filepath.Join(dir, episode.EventsFile)) {
		if e.Event == "reached" {
			t.Errorf("the workload could: %s", e.Detail)
		}
	}
	for _, f := range files[:2] {
		if b, err := os.ReadFile(f); err != nil || string(b) != "7\n" {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
}

func TestOnce_AForkBombEnds(t *testing.T) {
	o := options(t, profile(`
echo event busy >&3; echo event quiet >&3
b() { n=$1; while [ $n -gt 0 ]; do n=$((n-1)); (trap "" TERM; while :; do sh -c : ; done) & done; }
b 20; sleep 0.3; exit 0`))
	meta, _ := one(t, o)
	if meta.Verdict != episode.Accepted {
		t.Errorf("verdict %s: %s", meta.Verdict, meta.Reason)
	}
	// Every process below this test has ended: none has it as subreaper.
	out, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range out {
		if b, err := os.ReadFile(path); err == nil && len(strings.TrimSpace(string(b))) > 0 {
			t.Errorf("children left: %s", b)
		}
	}
}

func TestOnce_AbandonedWhenStopped(t *testing.T) {
	t.Parallel()
	o := options(t, profile(`echo $$ >pid; trap "" TERM; while :; do sleep 0.05; done`))
	file := filepath.Join(o.DataDir, "episodes", ".work", "0", "pid")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	r := open(t, o)
	go func() {
		_, err := r.Once(ctx, "")
		done <- err
	}()
	await(t, func() bool { fi, err := os.Stat(file); return err == nil && fi.Size() > 1 })
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid := number(t, string(b))
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "recording abandoned") {
		t.Errorf("error %v", err)
	}
	if alive(pid) {
		t.Errorf("process %d outlived its episode", pid)
	}
	empty(t, o)
}

// await waits for a condition that another process makes true.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("what was waited for did not happen")
		case <-tick.C:
		}
	}
}

func TestOnce_ACommandThatCannotStartIsNoEpisode(t *testing.T) {
	t.Parallel()
	toml := strings.Replace(profile(""), `["/bin/sh", "-c", '''''']`, `["/no/such/program"]`, 1)
	o := options(t, toml)
	_, err := open(t, o).Once(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "/no/such/program: no such file") {
		t.Errorf("error %v", err)
	}
	empty(t, o)
}

func TestOnce_SweepsHalfEpisodes(t *testing.T) {
	t.Parallel()
	o := options(t, profile("echo event busy >&3; echo event quiet >&3"))
	episodes := filepath.Join(o.DataDir, "episodes")
	const half, whole = "01K00000000000000000000001", "01K00000000000000000000002"
	for _, id := range []string{half, whole} {
		if err := os.Mkdir(filepath.Join(episodes, id), 0o770); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(episodes, id, episode.MetaFile), []byte("{}"), 0o660); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(episodes, whole, episode.DoneMarker), nil, 0o660); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(episodes, ".work", "7", "locked")
	if err := os.MkdirAll(filepath.Join(locked, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	one(t, o)
	if disk.Exists(disk.OS{}, filepath.Join(episodes, half)) || disk.Exists(disk.OS{}, locked) {
		t.Error("what a crash left is still there")
	}
	if !disk.Exists(disk.OS{}, filepath.Join(episodes, whole, episode.MetaFile)) {
		t.Error("a whole episode was swept")
	}
}

func TestOnce_OneRecorderPerFolder(t *testing.T) {
	t.Parallel()
	o := options(t, profile("sleep 9"))
	held, err := disk.OS{}.Lock(filepath.Join(o.DataDir, "episodes"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, o).Once(t.Context(), ""); fault.CodeOf(err) != fault.TempFail || fault.FixOf(err) == "" {
		t.Errorf("error %v, code %d", err, fault.CodeOf(err))
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNew_WithoutACommit(t *testing.T) {
	o := options(t, profile(""))
	o.Build.Commit = ""
	if _, err := orchestrate.New(o); fault.CodeOf(err) != fault.Config || fault.FixOf(err) == "" {
		t.Errorf("error %v, code %d", err, fault.CodeOf(err))
	}
	empty(t, o)
}

func TestOnce_RefusesWhatCouldNotBeShipped(t *testing.T) {
	t.Parallel()
	no := func() (wire.Verdict, error) { return wire.Verdict{Reason: "too old"}, nil }
	for name, c := range map[string]struct {
		change func(*orchestrate.Options)
		want   string
	}{
		"gate":   {func(o *orchestrate.Options) { o.Gate = gate(no) }, "the gate rejects commit " + commit + ": too old"},
		"disk":   {func(o *orchestrate.Options) { o.DiskReserve = 1 << 60 }, "less than the reserve of 1.0 EiB"},
		"outbox": {func(o *orchestrate.Options) { o.OutboxLimit = -1 }, "of episodes wait to be shipped"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, profile("sleep 9"))
			c.change(&o)
			_, err := open(t, o).Once(t.Context(), "")
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.CodeOf(err) != fault.TempFail || fault.FixOf(err) == "" {
				t.Errorf("error %v (code %d), want %s", err, fault.CodeOf(err), c.want)
			}
			empty(t, o)
		})
	}
}

// A host recorded 19 hours of episodes that were then refused, because only the shipper
// asked the gate.
func TestGate_ANoOutlivesRestartAndSilence(t *testing.T) {
	// Not in parallel: a fork of another test holds the folder's lock until it executes.
	o := options(t, profile("echo event busy >&3; echo event quiet >&3"))
	answer, away := wire.Verdict{}, error(nil)
	o.Gate = gate(func() (wire.Verdict, error) { return answer, away })
	once := func() error {
		_, err := open(t, o).Once(t.Context(), "") // a new one: a restart
		return err
	}
	away = errors.New("no route to host")
	if err := once(); err != nil {
		t.Errorf("receiver away, no word yet: %v", err)
	}
	away, answer = nil, wire.Verdict{Reason: "gated"}
	if err := once(); err == nil {
		t.Error("recorded after a no")
	}
	away = errors.New("no route to host")
	if err := once(); err == nil || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("recorded after a no, receiver away: %v", err)
	}
	o.Build.Commit = ident.Commit(strings.Repeat("a", 40))
	if err := once(); err != nil {
		t.Errorf("the no was for another commit: %v", err)
	}
	o.Build.Commit = commit
	away, answer = nil, wire.Verdict{Accepted: true}
	if err := once(); err != nil {
		t.Errorf("the gate says yes again: %v", err)
	}
}

func TestRun_FillsSlotsUntilStopped(t *testing.T) {
	t.Parallel()
	// Once a second, so that a busy machine is in time for two slots as well.
	o := options(t, strings.Replace(profile("echo event busy >&3; echo event quiet >&3; sleep 0.2"), "proc_hz = 20", "proc_hz = 1", 1))
	o.MaxSlots, o.Rest = 2, 10*time.Millisecond
	states := make(chan string, 100)
	o.Notify = func(s string) { states <- s }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	r := open(t, o)
	go func() { done <- r.Run(ctx) }()
	if s := <-states; s != "READY=1" {
		t.Errorf("first state %q", s)
	}
	whole := func() []string {
		found, err := filepath.Glob(filepath.Join(o.DataDir, "episodes", "*", episode.DoneMarker))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	await(t, func() bool { return len(whole()) >= 4 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	counters, slots := map[uint64]bool{}, map[int]bool{}
	for _, path := range whole() {
		m, faults := episode.Verify(os.DirFS(filepath.Dir(path)))
		if len(faults) > 0 {
			t.Errorf("%s: %v", path, faults)
		}
		if counters[m.Counter] {
			t.Errorf("counter %d given twice", m.Counter)
		}
		counters[m.Counter], slots[m.Slot] = true, true
	}
	if len(slots) != 2 {
		t.Errorf("slots %v", slots)
	}
	entries, err := os.ReadDir(filepath.Join(o.DataDir, "episodes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if id, err := ident.ParseEpisodeID(e.Name()); err == nil &&
			!disk.Exists(disk.OS{}, filepath.Join(o.DataDir, "episodes", string(id), episode.DoneMarker)) {
			t.Errorf("half episode left: %s", id)
		}
	}
}

func TestOnce_WallClockSteps(t *testing.T) {
	t.Parallel()
	o := options(t, profile("echo event busy >&3; echo event quiet >&3; sleep 0.5"))
	begin := time.Now()
	o.Now = func() time.Time {
		now := time.Now()
		if now.Sub(begin) > 300*time.Millisecond {
			now = now.Add(-time.Hour)
		}
		return now
	}
	meta, dir := one(t, o)
	if step := time.Duration(meta.ClockStepMS) * time.Millisecond; (step + time.Hour).Abs() > time.Second {
		t.Errorf("step %s, want an hour back", step)
	}
	if _, faults := episode.Verify(os.DirFS(dir)); len(faults) > 0 {
		t.Errorf("faults %v", faults)
	}
}

// small is a file system with little room, of which the working folder takes a part.
type small struct {
	disk.OS
	work string
	room int64
}

func (s small) Free(string) (int64, error) {
	free := s.room
	err := filepath.WalkDir(s.work, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				free -= fi.Size()
			}
		}
		return nil
	})
	return free, err
}

func TestOnce_AWorkloadThatFillsTheDisk(t *testing.T) {
	t.Parallel()
	o := options(t, profile("head -c 700k /dev/zero >big; sleep 9"))
	o.FS = small{work: filepath.Join(o.DataDir, "episodes", ".work"), room: 1 << 20}
	o.DiskReserve = 1 << 20
	_, err := open(t, o).Once(t.Context(), "")
	if err == nil || !strings.Contains(err.Error(), "the disk filled up") {
		t.Errorf("error %v", err)
	}
	empty(t, o)
}

// A workload of the same user may kill the supervisor if the kernel cannot confine it: no
// episode results, and the processes that it started are reported.
func TestOnce_TheSupervisorIsKilled(t *testing.T) {
	o := options(t, profile("echo event busy >&3; echo event quiet >&3; sleep 9"))
	done := make(chan error, 1)
	r := open(t, o)
	go func() {
		_, err := r.Once(t.Context(), "")
		done <- err
	}()
	var supervisor int
	await(t, func() bool {
		for _, pid := range childrenOf(os.Getpid()) {
			if b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err == nil &&
				strings.Contains(string(b), "supervise") && len(childrenOf(pid)) > 0 {
				supervisor = pid
			}
		}
		return supervisor != 0
	})
	orphans := childrenOf(supervisor)
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "supervisor") {
		t.Errorf("error %v", err)
	}
	for _, pid := range orphans {
		await(t, func() bool { return !alive(pid) }) // its new parent reaps it
	}
	empty(t, o)
}

func childrenOf(pid int) []int {
	var all []int
	paths, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children") // no match: none
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// failing is a file system on which the n-th call that changes something fails.
type failing struct {
	disk.OS
	left *atomic.Int64 // collectors write side by side
}

var errDisk = errors.New("no space left on this disk")

func (f failing) step() error {
	if f.left.Add(-1) == 0 {
		return errDisk
	}
	return nil
}

func (f failing) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag&os.O_CREATE == 0 {
		return f.OS.OpenFile(name, flag, perm)
	}
	if err := f.step(); err != nil {
		return nil, err
	}
	file, err := f.OS.OpenFile(name, flag, perm)
	return failingFile{file, f}, err
}

func (f failing) Rename(from, to string) error { return errors.Join(f.step(), f.OS.Rename(from, to)) }
func (f failing) SyncDir(name string) error    { return errors.Join(f.step(), f.OS.SyncDir(name)) }
func (f failing) Mkdir(name string, perm fs.FileMode) error {
	return errors.Join(f.step(), f.OS.Mkdir(name, perm))
}

type failingFile struct {
	disk.File
	fs failing
}

func (f failingFile) Write(b []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f failingFile) Sync() error { return errors.Join(f.fs.step(), f.File.Sync()) }

func TestOnce_ADiskThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	failed := 0
	for n := 1; ; n++ {
		o := options(t, profile("echo event busy >&3; echo event quiet >&3"))
		o.Log = slog.New(slog.DiscardHandler)
		left := &atomic.Int64{}
		left.Store(int64(n))
		o.FS = failing{left: left}
		meta, err := open(t, o).Once(t.Context(), "")
		if err == nil {
			if left.Load() > 0 && failed < 15 {
				t.Fatalf("only %d steps failed", failed)
			}
			dir := filepath.Join(o.DataDir, "episodes", string(meta.Episode))
			if _, faults := episode.Verify(os.DirFS(dir)); len(faults) > 0 {
				t.Errorf("step %d: faults %v", n, faults)
			}
			if left.Load() > 0 {
				return
			}
			continue // a step whose failure does no harm
		}
		failed++
		if !errors.Is(err, errDisk) {
			t.Errorf("step %d: %v", n, err)
		}
		empty(t, o)
	}
}
