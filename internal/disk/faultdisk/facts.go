package faultdisk

import (
	"io/fs"
	"syscall"
	"time"

	"cis490/internal/disk"
)

// Facts returns what disk.Owner and its siblings tell of a file that was described.
func (n *node) Facts(fi fs.FileInfo) disk.Facts {
	if i, ok := fi.(info); ok {
		return i.facts
	}
	return disk.Facts{Links: 1}
}

// touch notes that a file was changed, at a time that no other change has.
func (d *Disk) touch(n *node) {
	d.changes++
	n.changed = time.Unix(0, d.changes)
	if d.now != nil {
		n.mtime = d.now()
	}
	d.dirty[n] = true
}

// fill notes that a name in a folder was changed.
func (d *Disk) fill(folder *node, base string) {
	folder.changes[base] = true
	d.dirty[folder] = true
}

// Chown gives a file or folder to a user. Like the permissions of a file it is not
// modelled beyond that: it is durable at once, and keeps nobody out.
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

// Mkfifo makes a named pipe. Opened, it says so in its Stat and does not block.
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

// Exchange swaps two names, as renameat2(2) does.
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
	inA.names[nameA], inB.names[nameB] = nodeB, nodeA
	d.fill(inA, nameA)
	d.fill(inB, nameB)
	return nil
}

// holds tells whether a folder is another one or lies below it.
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
