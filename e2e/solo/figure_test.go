//go:build solo

package solo

import (
	"bytes"
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

// stat returns a process's name, parent, and processor time so far: proc_pid_stat(5).
func stat(pid int) (name string, parent int, cpu time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, 0, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	var n [3]int
	fields := strings.Fields(string(b[end+1:]))
	for i, f := range []string{fields[1], fields[11], fields[12]} { // parent; user and system, in ticks of 10 ms
		if n[i], err = strconv.Atoi(f); err != nil {
			return "", 0, 0, err
		}
	}
	return string(b[open+1 : end]), n[0], time.Duration(n[1]+n[2]) * 10 * time.Millisecond, nil
}

// cpuTime returns the receiver's processor time.
func (r *harness) cpuTime() time.Duration {
	r.t.Helper()
	_, _, cpu, err := stat(r.pid())
	must(r.t, err)
	return cpu
}

// spent returns what the receiver has spent since its start; bytes are those of proc_pid_io(5).
func (r *harness) spent() cost {
	r.t.Helper()
	c := cost{cpu: r.cpuTime()}
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
