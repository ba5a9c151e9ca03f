package faultdisk

import (
	"io/fs"
	"syscall"
	"time"

	"cis490/internal/disk"
)

// Facts returns the metadata of a file for disk.Owner and its siblings.
func (n *node) Facts(fi fs.FileInfo) disk.Facts {
	if i, ok := fi.(info); ok {
		return i.facts
	}
	return disk.Facts{Links: 1}
}

// touch marks a file as changed, at a unique time.
func (d *Disk) touch(n *node) {
	d.changes++
	n.changed = time.Unix(0, d.changes)
	if d.now != nil {
		n.mtime = d.now()
	}
	d.dirty[n] = true
}

// fill marks a name in a folder as changed.
func (d *Disk) fill(folder *node, base string) {
	folder.changes[base] = true
	d.dirty[folder] = true
}

// Chown sets an owner. Like permissions it is not modelled further: it is durable at once
// and restricts no access.
func (d *Disk) Chown(name string, uid int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, n, err := d.find(name)
	if err != nil {
		return wrap("chown", name, err)
	}
	n.uid = uid
	d.touch(n)
	return nil
}

// Mkfifo makes a named pipe. Opening it does not block; Stat shows its type.
func (d *Disk) Mkfifo(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, base, n, _ := d.find(name)
	switch {
	case n != nil:
		return wrap("mkfifo", name, fs.ErrExist)
	case parent == nil || parent.names == nil:
		return wrap("mkfifo", name, fs.ErrNotExist)
	}
	if err := d.step(); err != nil {
		return wrap("mkfifo", name, err)
	}
	n = &node{mode: fs.ModeNamedPipe | 0o660, mtime: time.Unix(0, 0), links: 1, uid: parent.uid}
	d.touch(n)
	parent.names[base] = n
	d.fill(parent, base)
	return nil
}

// Exchange swaps two names like renameat2(2).
func (d *Disk) Exchange(a, b string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	inA, nameA, nodeA, err := d.find(a)
	if err != nil {
		return wrap("exchange", a, err)
	}
	inB, nameB, nodeB, err := d.find(b)
	if err != nil {
		return wrap("exchange", b, err)
	}
	if nodeA.holds(inB) || nodeB.holds(inA) {
		return wrap("exchange", a, syscall.EINVAL)
	}
	if err := d.step(); err != nil {
		return wrap("exchange", a, err)
	}
	clear(d.folders)
	inA.names[nameA], inB.names[nameB] = nodeB, nodeA
	d.fill(inA, nameA)
	d.fill(inB, nameB)
	return nil
}

// holds reports whether below is the folder itself or inside it.
func (n *node) holds(below *node) bool {
	if n == below {
		return true
	}
	for _, child := range n.names {
		if child.names != nil && child.holds(below) {
			return true
		}
	}
	return false
}
