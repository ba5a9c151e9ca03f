package orchestrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/prometheus/procfs"
)

// tree lists the processes below a process.
type tree struct {
	procReader
	// scan reads the parents of all processes, for kernels without lists of children
	// (CONFIG_PROC_CHILDREN).
	scan bool
}

func newTree(proc string) *tree {
	own := strconv.Itoa(os.Getpid())
	_, err := os.Stat(filepath.Join(proc, own, "task", own, "children"))
	return &tree{procReader: procReader{proc: proc}, scan: err != nil}
}

// below returns the ids of all processes below root, parents before children. If a process
// ends meanwhile, the next call finds its children, because they move up to the supervisor.
func (t *tree) below(root int) ([]int, error) {
	children := t.children
	if t.scan {
		parents, err := t.parents()
		if err != nil {
			return nil, err
		}
		children = func(pid int) ([]int, error) { return parents[pid], nil }
	}
	found, err := children(root)
	if err != nil {
		return nil, fmt.Errorf("list processes below %d: %w", root, err)
	}
	seen := map[int]bool{root: true}
	var all []int
	for len(found) > 0 {
		pid := found[0]
		found = found[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		all = append(all, pid)
		more, err := children(pid)
		if err != nil && !gone(err) {
			return nil, fmt.Errorf("list processes below %d: %w", root, err)
		}
		found = append(found, more...)
	}
	return all, nil
}

// parents reads the parent of every process of the machine, and returns the children of
// each.
func (t *tree) parents() (map[int][]int, error) {
	fsys, err := procfs.NewFS(t.proc)
	if err != nil {
		return nil, err
	}
	all, err := fsys.AllProcs()
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, p := range all {
		if s, err := p.Stat(); err == nil {
			children[s.PPID] = append(children[s.PPID], p.PID)
		}
	}
	return children, nil
}

// gone reports whether an error of /proc means that the process has ended.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoProcess)
}
