package orchestrate_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// benchFor is how long each of the two samples its tree.
const benchFor = 10 * time.Second

// quietTree is three idle processes, so that all CPU time is the sampler's.
const quietTree = "sleep 600 & sleep 600 & echo event busy >&3; echo event quiet >&3; exec sleep 600"

// BenchmarkRecording is the cost of a slot that records at 10 Hz, everything
// included (collectors, files, supervisor), and how late its samples are, beside
// top in batch mode at the same rate: pidstat's least interval is a second.
// Run it on an idle machine; it says how busy the machine was.
func BenchmarkRecording(b *testing.B) {
	toml := profile(quietTree)
	toml = strings.Replace(toml, "proc_hz = 20", "proc_hz = 10", 1)
	toml = strings.Replace(toml, "weight = 1", "weight = 1\nstop = \"budget\"", 1)
	toml = toml[:strings.LastIndex(toml, `"2s"`)] + fmt.Sprintf("%q\n", benchFor)
	for b.Loop() {
		self, children := spent(b, syscall.RUSAGE_SELF), spent(b, syscall.RUSAGE_CHILDREN)
		begin := time.Now()
		meta, _ := one(b, options(b, toml))
		own := (spent(b, syscall.RUSAGE_SELF) - self + spent(b, syscall.RUSAGE_CHILDREN) - children).Seconds() / time.Since(begin).Seconds()
		s := meta.Sampling["proc"]
		b.ReportMetric(100*own, "%core/slot")
		b.ReportMetric(float64(s.JitterP99US)/1e3, "ms-late-p99")
		b.ReportMetric(float64(s.Missed), "missed")
		b.ReportMetric(100*meta.Load.Busy, "%host-busy")
		if other := top(b); other > 0 {
			b.ReportMetric(100*other, "%core/top")
			b.ReportMetric(own/other, "x-of-top")
		}
	}
}

// top returns the share of a core that top needs for the same tree at 10 Hz, 0 if it is not
// installed.
func top(b *testing.B) float64 {
	b.Helper()
	path, err := exec.LookPath("top")
	if err != nil {
		return 0
	}
	tree := exec.CommandContext(b.Context(), "/bin/sh", "-c", strings.ReplaceAll(quietTree, ">&3", ">/dev/null"))
	tree.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := tree.Start(); err != nil {
		b.Fatal(err)
	}
	var pids []string
	for deadline := time.Now().Add(5 * time.Second); len(pids) < 3 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		pids = []string{fmt.Sprint(tree.Process.Pid)}
		for _, pid := range childrenOf(tree.Process.Pid) {
			pids = append(pids, fmt.Sprint(pid))
		}
	}
	cmd := exec.CommandContext(b.Context(), path, "-b", "-d", "0.1", "-n", fmt.Sprint(int(benchFor.Seconds()*10)),
		"-p", strings.Join(pids, ","))
	cmd.Env = append(os.Environ(), "TERM=dumb")
	begin := time.Now()
	err = cmd.Run()
	share := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / time.Since(begin).Seconds()
	_ = syscall.Kill(-tree.Process.Pid, syscall.SIGKILL) // the tree
	_ = tree.Wait()                                      // killed
	if err != nil {
		b.Fatal(err)
	}
	return share
}

func spent(b *testing.B, who int) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
