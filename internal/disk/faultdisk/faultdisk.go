// Package faultdisk is a file system in memory that models power cuts and fails on demand,
// for tests of crash safety.
//
// It keeps two states: the one that programs see, and the durable one. Only File.Sync makes
// a file's content durable, and only SyncDir a folder's names. It counts the calls that
// change something or make it durable; at a chosen call it fails, writes short, or loses
// power. Permissions are not modelled.
package faultdisk

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"cis490/internal/disk"
)

// ErrPowerLost is the error of every call between a power cut and Reboot.
var ErrPowerLost = errors.New("power lost")

// Fault is what happens at the chosen call.
type Fault int

// The faults.
const (
	Fail      Fault = iota // EIO, without effect; a Sync makes nothing durable
	NoSpace                // ENOSPC, without effect
	Short                  // a write writes half, then EIO; other calls fail
	PowerLoss              // the call has no effect, and nothing works until Reboot
	Torn                   // a Flush writes all but new files, whose content no later one writes; other calls fail
)

// Survive selects the unsynced state that survives a power cut.
type Survive int

// The outcomes of a power cut: a journal may have committed any part.
const (
	Nothing  Survive = iota // neither unsynced names nor unsynced data
	Names                   // all names, but no unsynced data: files may be empty or short
	HalfData                // all names, and half of each file's unsynced data
	All                     // everything
	// The next ones keep all names and what was appended to files that were durable before,
	// as a journal may that orders names before sizes.
	Appends     // new files are empty
	AppendsOdd  // new files are empty, every second one is complete
	AppendsEven // the other ones are
	AppendsOne  // new files are empty, and of the names that each has only the first one survives
	// NewFiles keeps all names and all data, except what was appended to files that were
	// durable before.
	NewFiles
)

// Survivals are all outcomes of a power cut.
var Survivals = []Survive{Nothing, Names, HalfData, All, Appends, AppendsOdd, AppendsEven, AppendsOne, NewFiles}

// Disk is the file system. Use New; the zero value is not usable.
type Disk struct {
	mu    sync.Mutex
	root  *node
	calls int
	at    int // 0: no fault armed
	fault Fault
	then  int // calls after the fault until the power is lost; 0: it stays
	lost  bool
	boot  int // files opened before the last one are closed
	made  int // files made
	// changes counts the changes and serves as their time.
	changes int64
	dirty   map[*node]bool   // changed since the last Flush
	now     func() time.Time // for modification times; nil: not modelled
	spoiled string           // a file whose opens fail, with bad
	bad     error
	// folders are folders by the paths under which they were found, until a folder moves.
	folders map[string]*node
}

var _ disk.FS = (*Disk)(nil)

// node is a file, a folder or a symlink.
type node struct {
	target  string // of a symlink
	mode    fs.FileMode
	mtime   time.Time
	links   int
	uid     int
	changed time.Time
	data    []byte
	durable []byte
	kept    bool  // the file was durable once, perhaps empty
	made    int   // how many files were made before
	first   *node // the folder in which the file was made, by which name
	as      string
	names   map[string]*node // of a folder: nil for a file
	synced  map[string]*node
	changes map[string]bool // names that may differ in the two
	home    *node           // the folder that durably has this one, by which name
	base    string
}

func newDir() *node {
	return &node{mode: fs.ModeDir | 0o755, names: map[string]*node{}, synced: map[string]*node{}, changes: map[string]bool{}}
}

// New returns an empty disk with the given folders, durable from the start.
func New(dirs ...string) *Disk {
	d := &Disk{root: newDir(), dirty: map[*node]bool{}, folders: map[string]*node{}}
	for _, dir := range dirs {
		n := d.root
		for _, name := range split(dir) {
			next := n.names[name]
			if next == nil {
				next = newDir()
				n.names[name] = next
				n.commit(name)
			}
			n = next
		}
	}
	return d
}

// SetClock sets the clock for modification times.
func (d *Disk) SetClock(now func() time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = now
}

// Arm sets a fault at the n-th call from now; 1 is the next call.
func (d *Disk) Arm(n int, f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.at, d.fault, d.then = 0, n, f, 0
}

// ArmTwice is Arm, and the power is lost at the m-th call after the fault.
func (d *Disk) ArmTwice(n int, f Fault, m int) {
	d.Arm(n, f)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.then = m
}

// Lost reports whether the power is lost.
func (d *Disk) Lost() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Spoil makes opens of a file fail, as of one with a bad sector; nil ends that.
func (d *Disk) Spoil(name string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoiled, d.bad = name, err
}

// Calls returns how many calls were counted since New or Arm.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Restart ends a program at once, as kill(1) does: everything is there that it wrote, durable
// or not. Files opened before stay closed.
func (d *Disk) Restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.lost = 0, false
	d.boot++
}

// Reboot restores the power: programs now see what survived. Files opened before stay
// closed.
func (d *Disk) Reboot(s Survive) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.lost = 0, false
	d.boot++
	d.root, d.dirty, d.folders = survivor(d.root, s, map[*node]*node{}), map[*node]bool{}, map[string]*node{}
}

// Copy returns a disk with the same content, durable.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{root: survivor(d.root, All, map[*node]*node{}), dirty: map[*node]bool{}, folders: map[string]*node{}}
}

func survivor(n *node, s Survive, done map[*node]*node) *node {
	if m, ok := done[n]; ok {
		return m
	}
	m := &node{target: n.target, mode: n.mode, mtime: n.mtime, links: 0, uid: n.uid, changed: n.changed}
	done[n] = m
	if n.names == nil {
		m.data = append([]byte(nil), n.durable...)
		switch s {
		case Appends, AppendsOne, AppendsOdd, AppendsEven:
			if n.kept || s == AppendsOdd && n.made%2 == 1 || s == AppendsEven && n.made%2 == 0 {
				m.data = append([]byte(nil), n.data...)
			}
		case NewFiles:
			if !n.kept || len(n.data) <= len(n.durable) {
				m.data = append([]byte(nil), n.data...)
			}
		case All:
			m.data = append([]byte(nil), n.data...)
		case HalfData:
			if more := len(n.data) - len(n.durable); more > 0 {
				m.data = append([]byte(nil), n.data[:len(n.durable)+more/2]...)
			} else if more == 0 {
				tear(m.data, n.data)
			}
		}
		m.durable, m.kept = append([]byte(nil), m.data...), true
		return m
	}
	from := n.names
	if s == Nothing {
		from = n.synced
	}
	m.names, m.synced, m.changes = map[string]*node{}, map[string]*node{}, map[string]bool{}
	for name, child := range from {
		if s == AppendsOne && n.synced[name] != child && child.first != nil && (child.first != n || child.as != name) &&
			child.first.names[child.as] == child {
			continue
		}
		c := survivor(child, s, done)
		c.links++
		m.names[name] = c
		m.commit(name)
	}
	return m
}

// tear applies the first half of an overwrite to the old content.
func tear(old, written []byte) {
	from, to := 0, len(old)
	for from < to && old[from] == written[from] {
		from++
	}
	for to > from && old[to-1] == written[to-1] {
		to--
	}
	copy(old[from:], written[from:from+(to-from)/2])
}

// step counts a call and returns its error.
func (d *Disk) step() error {
	if d.lost {
		return ErrPowerLost
	}
	d.calls++
	if d.at > 0 && d.then > 0 && d.calls == d.at+d.then {
		d.lost = true
		return ErrPowerLost
	}
	if d.at == 0 || d.calls != d.at {
		return nil
	}
	switch d.fault {
	case PowerLoss:
		d.lost = true
		return ErrPowerLost
	case NoSpace:
		return syscall.ENOSPC
	default:
		return syscall.EIO
	}
}

// find returns the node of a name, and the folder that contains or would contain it.
func (d *Disk) find(name string) (parent *node, base string, n *node, err error) {
	i := strings.LastIndexByte(name, '/')
	if base = name[i+1:]; i < 1 || base == "" || base == "." || base == ".." {
		return d.walk(name)
	}
	dir := name[:i]
	if parent = d.folders[dir]; parent == nil {
		if _, _, parent, _ = d.walk(dir); parent == nil || parent.names == nil {
			return nil, "", nil, fs.ErrNotExist
		}
		d.folders[dir] = parent
	}
	if n = parent.names[base]; n == nil {
		err = fs.ErrNotExist
	}
	return parent, base, n, err
}

// moves forgets where folders were, if the node is one.
func (d *Disk) moves(n *node) {
	if n != nil && n.names != nil {
		clear(d.folders)
	}
}

// walk is find, from the root on.
func (d *Disk) walk(name string) (parent *node, base string, n *node, err error) {
	n = d.root
	if strings.Contains(name, "..") {
		name = path.Clean("/" + name)
	}
	for part, rest := "", name; rest != ""; {
		if part, rest, _ = strings.Cut(rest, "/"); part == "" || part == "." {
			continue
		}
		if n == nil || n.names == nil {
			return nil, "", nil, fs.ErrNotExist
		}
		parent, base = n, part
		n = n.names[base]
	}
	if n == nil {
		err = fs.ErrNotExist
	}
	return parent, base, n, err
}

func split(name string) []string {
	if name = path.Clean("/" + name); name == "/" {
		return nil
	}
	return strings.Split(name[1:], "/")
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
