//go:build solo

package solo

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// figure prints values with their units as a line of a Go benchmark, which benchstat reads.
func figure(t *testing.T, name string, values ...any) {
	t.Helper()
	line := fmt.Sprintf("Benchmark%s 1", name)
	for i := 0; i+1 < len(values); i += 2 {
		line += fmt.Sprintf(" %.4g %s", values[i], values[i+1])
	}
	fmt.Println(line)
}

// cost is what the receiver spent.
type cost struct {
	cpu     time.Duration
	written float64 // bytes, to the disk
}

// spent returns what the receiver has spent since its start: proc_pid_stat(5) and
// proc_pid_io(5).
func (r *harness) spent() (c cost) {
	r.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.pid()))
	must(r.t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, f := range fields[11:13] { // user and system, in ticks of 10 ms
		n, err := strconv.Atoi(f)
		must(r.t, err)
		c.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", r.pid()))
	must(r.t, err)
	_, text, _ := strings.Cut(string(io), "\nwrite_bytes: ")
	text, _, _ = strings.Cut(text, "\n")
	c.written, err = strconv.ParseFloat(text, 64)
	must(r.t, err)
	return c
}

// per returns the microseconds of processor time and the bytes written since an earlier
// moment, for each of n requests.
func (c cost) per(before cost, n float64) (us, written float64) {
	return float64((c.cpu - before.cpu).Microseconds()) / n, (c.written - before.written) / n
}

// peakMiB returns the receiver's peak memory.
func (r *harness) peakMiB() float64 { return float64(r.statusKiB("VmHWM")) / 1024 }
