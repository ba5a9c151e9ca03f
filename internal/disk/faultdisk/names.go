package faultdisk

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"cis490/internal/disk"
)

// OpenFile is os.OpenFile, for the flags that the program uses.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return nil, ErrPowerLost
	}
	if d.bad != nil && name == d.spoiled {
		return nil, wrap("open", name, d.bad)
	}
	parent, base, n, err := d.find(name)
	switch {
	case parent == nil:
		return nil, wrap("open", name, fs.ErrNotExist)
	case err != nil && flag&os.O_CREATE == 0:
		return nil, wrap("open", name, err)
	case err == nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, wrap("open", name, fs.ErrExist)
	case err == nil && n.names != nil:
		return nil, wrap("open", name, syscall.EISDIR)
	}
	if n == nil || flag&os.O_TRUNC != 0 {
		if err := d.step(); err != nil {
			return nil, wrap("open", name, err)
		}
	}
	if n == nil {
		d.made++
		n = &node{mode: perm, mtime: time.Unix(0, 0), links: 1, uid: parent.uid, made: d.made, first: parent, as: base}
		d.touch(n)
		d.fill(parent, base)
		parent.names[base] = n
	}
	if flag&os.O_TRUNC != 0 {
		n.data = nil
		d.touch(n)
	}
	return &file{d: d, n: n, name: name, appends: flag&os.O_APPEND != 0, boot: d.boot}, nil
}

// Rename is os.Rename; it replaces an existing file.
func (d *Disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, oldBase, n, err := d.find(oldname)
	if err != nil {
		return wrap("rename", oldname, err)
	}
	to, newBase, over, _ := d.find(newname)
	if to == nil {
		return wrap("rename", newname, fs.ErrNotExist)
	}
	if over != nil && over.names != nil && (n.names == nil || len(over.names) > 0) {
		return wrap("rename", newname, fs.ErrExist)
	}
	if err := d.step(); err != nil {
		return wrap("rename", oldname, err)
	}
	if over == n {
		return nil // two names of one file: rename(2) does nothing
	}
	if over != nil {
		over.links--
	}
	d.touch(n)
	d.fill(from, oldBase)
	d.fill(to, newBase)
	d.moves(n)
	delete(from.names, oldBase)
	to.names[newBase] = n
	return nil
}

// Link is os.Link.
func (d *Disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, n, err := d.find(oldname)
	if err != nil {
		return wrap("link", oldname, err)
	}
	to, base, over, _ := d.find(newname)
	switch {
	case to == nil:
		return wrap("link", newname, fs.ErrNotExist)
	case over != nil:
		return wrap("link", newname, fs.ErrExist)
	case n.names != nil:
		return wrap("link", oldname, syscall.EPERM)
	}
	if err := d.step(); err != nil {
		return wrap("link", newname, err)
	}
	to.names[base] = n
	d.fill(to, base)
	n.links++
	d.touch(n)
	return nil
}

// Symlink makes a symlink, durable after the folder's SyncDir. The disk does not follow
// symlinks.
func (d *Disk) Symlink(target, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, base, n, _ := d.find(name)
	switch {
	case n != nil:
		return wrap("symlink", name, fs.ErrExist)
	case parent == nil:
		return wrap("symlink", name, fs.ErrNotExist)
	}
	if err := d.step(); err != nil {
		return wrap("symlink", name, err)
	}
	d.fill(parent, base)
	parent.names[base] = &node{target: target, mode: fs.ModeSymlink | 0o777, mtime: time.Unix(0, 0), links: 1, uid: parent.uid}
	return nil
}

// Readlink returns a symlink's target.
func (d *Disk) Readlink(name string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return "", ErrPowerLost
	}
	_, _, n, err := d.find(name)
	if err == nil && n.mode&fs.ModeSymlink == 0 {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", wrap("readlink", name, err)
	}
	return n.target, nil
}

// Remove removes a file or an empty folder.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, base, n, err := d.find(name)
	if err != nil {
		return wrap("remove", name, err)
	}
	if len(n.names) > 0 {
		return wrap("remove", name, syscall.ENOTEMPTY)
	}
	if err := d.step(); err != nil {
		return wrap("remove", name, err)
	}
	d.moves(n)
	delete(parent.names, base)
	d.fill(parent, base)
	n.links--
	if d.touch(n); n.links <= 0 {
		delete(d.dirty, n)
	}
	return nil
}

// Mkdir makes a folder.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, base, n, _ := d.find(name)
	switch {
	case n != nil:
		return wrap("mkdir", name, fs.ErrExist)
	case parent == nil:
		return wrap("mkdir", name, fs.ErrNotExist)
	}
	if err := d.step(); err != nil {
		return wrap("mkdir", name, err)
	}
	dir := newDir()
	dir.uid = parent.uid
	dir.mode = fs.ModeDir | perm
	d.fill(parent, base)
	parent.names[base] = dir
	return nil
}

// SyncDir makes a folder's names durable.
func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, n, err := d.find(name)
	if err != nil {
		return wrap("sync", name, err)
	}
	if err := d.step(); err != nil {
		return wrap("sync", name, err)
	}
	n.flush()
	delete(d.dirty, n)
	return nil
}

// commit makes a name in a folder durable as it is now. It removes a folder's previous
// durable name, because a folder has one name and no journal commits half of its rename.
func (n *node) commit(base string) {
	if was := n.synced[base]; was != nil && was.home == n && was.base == base {
		was.home = nil
	}
	child, ok := n.names[base]
	if !ok {
		delete(n.synced, base)
		return
	}
	if h := child.home; h != nil && h.names[child.base] != child && h.synced[child.base] == child {
		delete(h.synced, child.base)
	}
	n.synced[base] = child
	if child.names != nil {
		child.home, child.base = n, base
	}
}

// ReadDir lists a folder, sorted by name.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return nil, ErrPowerLost
	}
	_, _, n, err := d.find(name)
	if err != nil {
		return nil, wrap("readdir", name, err)
	}
	if n.names == nil {
		return nil, wrap("readdir", name, syscall.ENOTDIR)
	}
	entries := make([]fs.DirEntry, 0, len(n.names))
	for base, child := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(base)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Lstat returns a name's FileInfo.
func (d *Disk) Lstat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return nil, ErrPowerLost
	}
	_, base, n, err := d.find(name)
	if err != nil {
		return nil, wrap("lstat", name, err)
	}
	return n.info(base), nil
}

// info is a snapshot of a node.
type info struct {
	name string
	size int64
	mode fs.FileMode
	at   time.Time
	n    *node

	facts disk.Facts
}

func (n *node) info(name string) info {
	base := name[strings.LastIndexByte(name, '/')+1:]
	facts := disk.Facts{Owner: n.uid, Links: max(n.links, 1), Changed: n.changed}
	return info{base, int64(len(n.data)), n.mode, n.mtime, n, facts}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.at }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return i.n } // identity: see disk.SameFile

// OpenFlush prepares calls that make the whole disk durable.
func (d *Disk) OpenFlush(dir string) (disk.Flusher, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return nil, ErrPowerLost
	}
	return &flusher{d, d.boot, dir}, nil
}

type flusher struct {
	d    *Disk
	boot int // in which it was opened
	dir  string
}

// Flush makes the whole disk durable.
func (f *flusher) Flush() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.boot != f.d.boot {
		return wrap("flush", f.dir, ErrPowerLost)
	}
	if err := f.d.step(); err != nil {
		if f.d.fault == Torn && !f.d.lost {
			for n := range f.d.dirty {
				if n.kept || n.names != nil {
					n.flush()
				}
			}
			clear(f.d.dirty)
		}
		return wrap("flush", f.dir, err)
	}
	for n := range f.d.dirty {
		n.flush()
	}
	clear(f.d.dirty)
	return nil
}

// Close does nothing.
func (f *flusher) Close() error { return nil }

func (n *node) flush() {
	if n.names == nil {
		n.keep()
		return
	}
	for base := range n.changes {
		n.commit(base)
	}
	clear(n.changes)
}
