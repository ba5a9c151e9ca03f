package orchestrate

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

// fakeProc is a /proc in which any entry can be missing.
type fakeProc struct {
	t   *testing.T
	dir string
}

func (f fakeProc) write(pid int, name, content string) {
	f.t.Helper()
	path := filepath.Join(f.dir, strconv.Itoa(pid), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// process makes an entry with ticks of user time of its own and of children that it
// has waited for.
func (f fakeProc) process(pid, ppid, ticks, waited int, children ...int) {
	f.t.Helper()
	f.write(pid, "stat", fmt.Sprintf("%d (work) S %d 1 1 0 -1 0 0 0 0 0 %d 0 %d 0 20 0 1 0 %d 4096 2 18446744073709551615"+
		strings.Repeat(" 0", 27)+"\n", pid, ppid, ticks, waited, 100+pid))
	f.write(pid, "io", "rchar: 10\nwchar: 0\nsyscr: 1\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n")
	f.write(pid, "schedstat", "1 2 3\n")
	f.write(pid, "fd/0", "")
	f.write(pid, fmt.Sprintf("task/%d/children", pid), strings.Trim(fmt.Sprint(children), "[]")+" ")
}

func (f fakeProc) remove(pid int, name string) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.dir, strconv.Itoa(pid), name)); err != nil {
		f.t.Fatal(err)
	}
}

// Processes end between any two reads of their entry: then a row lacks them but is still
// written, and counters never decrease.
func TestProcessCollector_AnEntryVanishesBetweenReads(t *testing.T) {
	for name, vanish := range map[string]func(fakeProc){
		"nothing":                func(fakeProc) {},
		"the whole entry":        func(f fakeProc) { f.remove(30, "") },
		"after its children":     func(f fakeProc) { f.remove(30, "task"); f.remove(30, "stat") },
		"before its I/O":         func(f fakeProc) { f.remove(30, "io"); f.remove(30, "schedstat"); f.remove(30, "fd") },
		"before its descriptors": func(f fakeProc) { f.remove(30, "fd") },
		"its thread":             func(f fakeProc) { f.remove(30, "task/30") },
	} {
		t.Run(name, func(t *testing.T) {
			f := fakeProc{t, t.TempDir()}
			f.process(10, 1, 0, 0, 20) // the supervisor
			f.process(20, 10, 5, 0, 30)
			f.process(30, 20, 7, 0)
			fs, err := procfs.NewFS(f.dir)
			if err != nil {
				t.Fatal(err)
			}
			c := processCollector{tree: &tree{procReader: procReader{proc: f.dir}}, fs: fs, root: 10}
			row := func() processRow {
				t.Helper()
				r, err := c.sample(stamp{})
				if err != nil {
					t.Fatalf("no row: %v", err)
				}
				return r.(processRow)
			}
			if r := row(); r.Processes != 2 || r.UserMS != 120 {
				t.Fatalf("before: %d processes, %d ms", r.Processes, r.UserMS)
			}
			vanish(f)
			r := row()
			if r.UserMS != 120 || r.Procs[0].PID != 20 {
				t.Errorf("after: %d ms, %+v", r.UserMS, r.Procs)
			}
			// Its parent has reaped it: now its time is the parent's.
			f.remove(30, "")
			f.process(20, 10, 5, 9)
			if r := row(); r.Processes != 1 || r.UserMS != 140 {
				t.Errorf("when it was waited for: %d processes, %d ms", r.Processes, r.UserMS)
			}
		})
	}
}

// If the supervisor itself has ended there is nothing to sample: that is an error.
func TestProcessCollector_TheSupervisorVanishes(t *testing.T) {
	f := fakeProc{t, t.TempDir()}
	f.process(10, 1, 0, 0)
	fs, err := procfs.NewFS(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	f.remove(10, "")
	c := processCollector{tree: &tree{procReader: procReader{proc: f.dir}}, fs: fs, root: 10}
	if r, err := c.sample(stamp{}); err == nil {
		t.Errorf("a row of nothing: %+v", r)
	}
}
