package orchestrate

import (
	"os"
	"os/exec"
	"testing"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// BenchmarkSample is the cost of one row of a tree of three processes: at 10 Hz
// one percent of a core is a millisecond of processor time for each.
func BenchmarkSample(b *testing.B) {
	cmd := exec.CommandContext(b.Context(), "/bin/sh", "-c", "sh -c 'sleep 600; :' & sleep 600; :")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	fs, err := procfs.NewFS("/proc")
	if err != nil {
		b.Fatal(err)
	}
	c := processCollector{tree: newTree("/proc"), fs: fs, root: cmd.Process.Pid}
	c.tree.kept = map[procFile]int{}
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.sample(stamp{}); err != nil {
			b.Fatal(err)
		}
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/row")
	b.ReportMetric(float64(spent)/float64(b.N)*10/1e9*100, "%core@10Hz")
	for _, pid := range append(below(b, c.tree, cmd.Process.Pid), cmd.Process.Pid) {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	_ = cmd.Wait() // killed
}

func below(tb testing.TB, t *tree, pid int) []int {
	tb.Helper()
	pids, err := t.below(pid)
	if err != nil {
		tb.Fatal(err)
	}
	return pids
}
