package sim

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"cis490/internal/disk"
	"cis490/internal/disk/faultdisk"
)

// Ill is the fault of a machine's data disk.
type Ill int

// The faults of a disk.
const (
	Well     Ill = iota
	Full         // ENOSPC for calls that need space
	ReadOnly     // EROFS for every change
	Flaky        // EIO for one change in eight
	NoSync       // EIO for calls that make data durable
	NoFlush      // EIO for syncfs(2), which makes uploads durable
	Dead         // EIO for everything
	Low          // less than the reserve is left; nothing fails
)

// lowRoom is the free space of a Low disk, in bytes: less than any reserve.
const lowRoom = 1 << 30

// errKilled is the error of every call of a killed process.
var errKilled = errors.New("the process was killed")

// procFS is the file system of one process. After the process is killed every call fails.
type procFS struct{ p *Proc }

var (
	_ disk.FS     = procFS{}
	_ disk.Space  = procFS{}
	_ disk.Locker = procFS{}
	_ disk.Links  = procFS{}
)

// kind is the effect of a call on the disk.
type kind int

const (
	look   kind = iota
	change      // needs no space
	grow
	settle // makes durable
)

// on returns the disk that contains the name, or the error of the call.
func (f procFS) on(k kind, op, name string) (*faultdisk.Disk, error) {
	m := f.p.m
	if f.p.hangs.Load() && strings.HasPrefix(name, m.data) {
		<-f.p.ctx.Done()
	}
	if f.p.dead.Load() {
		return nil, &fs.PathError{Op: op, Path: name, Err: errKilled}
	}
	m.dmu.Lock()
	defer m.dmu.Unlock()
	if m.spot != "" && strings.HasPrefix(name, m.spot) && (op == "open" || op == "read" || op == "write") {
		return nil, &fs.PathError{Op: op, Path: name, Err: m.spotErr}
	}
	ours := strings.HasPrefix(name, m.data)
	if ours && m.bare != nil {
		return m.bare, nil
	}
	var err error
	if ours {
		switch {
		case m.ill == Dead, m.ill == NoSync && k == settle, m.ill == NoFlush && op == "syncfs":
			err = syscall.EIO
		case m.ill == Full && k == grow:
			err = syscall.ENOSPC
		case m.ill == ReadOnly && k != look && k != settle:
			err = syscall.EROFS
		case m.ill == Flaky && k != look && m.rand.IntN(8) == 0:
			err = syscall.EIO
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return m.disk, nil
}

func (f procFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	k := look
	if flag&(syscall.O_CREAT|syscall.O_TRUNC) != 0 {
		k = grow
	}
	d, err := f.on(k, "open", name)
	if err != nil {
		return nil, err
	}
	real := name
	if k == look {
		real, _ = f.Real(name)
	}
	in, err := d.OpenFile(real, flag, perm)
	if err != nil {
		return nil, err
	}
	return &procFile{f, name, in}, nil
}

func (f procFS) Rename(from, to string) error {
	d, err := f.on(change, "rename", from)
	if err == nil {
		err = d.Rename(from, to)
	}
	return err
}

func (f procFS) Link(from, to string) error {
	d, err := f.on(grow, "link", from)
	if err == nil {
		err = d.Link(from, to)
	}
	return err
}

func (f procFS) Symlink(target, name string) error {
	d, err := f.on(grow, "symlink", name)
	if err == nil {
		err = d.Symlink(target, name)
	}
	return err
}

func (f procFS) Readlink(name string) (string, error) {
	d, err := f.on(look, "readlink", name)
	if err != nil {
		return "", err
	}
	return d.Readlink(name)
}

func (f procFS) Remove(name string) error {
	d, err := f.on(change, "remove", name)
	if err == nil {
		f.p.m.w.watchRemoved(f.p.m, name)
		err = d.Remove(name)
	}
	return err
}

func (f procFS) Mkdir(name string, perm fs.FileMode) error {
	d, err := f.on(grow, "mkdir", name)
	if err == nil {
		err = d.Mkdir(name, perm)
	}
	return err
}

func (f procFS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := f.on(look, "readdir", name)
	if err != nil {
		return nil, err
	}
	return d.ReadDir(name)
}

func (f procFS) Lstat(name string) (fs.FileInfo, error) {
	d, err := f.on(look, "lstat", name)
	if err != nil {
		return nil, err
	}
	return d.Lstat(name)
}

func (f procFS) SyncDir(name string) error {
	d, err := f.on(settle, "sync", name)
	if err == nil {
		err = d.SyncDir(name)
	}
	return err
}

func (f procFS) OpenFlush(dir string) (disk.Flusher, error) {
	d, err := f.on(look, "open", dir)
	if err != nil {
		return nil, err
	}
	in, err := d.OpenFlush(dir)
	if err != nil {
		return nil, err
	}
	return procFlusher{f, dir, in}, nil
}

type procFlusher struct {
	f   procFS
	dir string
	in  disk.Flusher
}

func (p procFlusher) Flush() error {
	if _, err := p.f.on(settle, "syncfs", p.dir); err != nil {
		return err
	}
	return p.in.Flush()
}

func (p procFlusher) Close() error { return p.in.Close() }

// Chmod does nothing: permissions are not modelled.
func (f procFS) Chmod(name string, _ fs.FileMode) error {
	_, err := f.on(change, "chmod", name)
	return err
}

// Chown does nothing.
func (f procFS) Chown(name string, _, _ int) error {
	_, err := f.on(change, "chown", name)
	return err
}

// Stat is Lstat of a symlink's target.
func (f procFS) Stat(name string) (fs.FileInfo, error) {
	real, _ := f.Real(name)
	return f.Lstat(real)
}

// Real resolves the symlinks of a path; programs have them, data does not.
func (f procFS) Real(name string) (string, error) {
	root := f.p.m.root
	rest, ok := strings.CutPrefix(name, root+"/")
	if !ok || !strings.HasPrefix(rest, "opt/") && !strings.HasPrefix(rest, "usr/") {
		return name, nil
	}
	d, err := f.on(look, "readlink", name)
	if err != nil {
		return name, err
	}
	at := root
	for n := 0; rest != "" && n < 40; n++ {
		var base string
		base, rest, _ = strings.Cut(rest, "/")
		at += "/" + base
		to, err := d.Readlink(at)
		switch {
		case err != nil: // is not a symlink, or does not exist
			continue
		case filepath.IsAbs(to):
			at = root
		default:
			at = filepath.Dir(at)
		}
		rest = filepath.Join(to, rest)
		rest = strings.TrimPrefix(rest, "/")
	}
	return at, nil
}

// Free returns the free space of a disk of ordinary size.
func (f procFS) Free(name string) (int64, error) {
	if _, err := f.on(look, "statfs", name); err != nil {
		return 0, err
	}
	f.p.m.dmu.Lock()
	defer f.p.m.dmu.Unlock()
	switch f.p.m.ill {
	case Full:
		return 0, nil
	case Low:
		return lowRoom, nil
	}
	return 1 << 40, nil
}

// Lock locks a folder until the process ends.
func (f procFS) Lock(name string) (io.Closer, error) {
	if _, err := f.on(look, "lock", name); err != nil {
		return nil, err
	}
	m := f.p.m
	m.dmu.Lock()
	defer m.dmu.Unlock()
	if by := m.locks[name]; by != nil && !by.dead.Load() {
		return nil, disk.ErrLocked
	}
	m.locks[name] = f.p
	return lock{f.p, name}, nil
}

type lock struct {
	p    *Proc
	name string
}

func (l lock) Close() error {
	m := l.p.m
	m.dmu.Lock()
	defer m.dmu.Unlock()
	if m.locks[l.name] == l.p {
		delete(m.locks, l.name)
	}
	return nil
}

type procFile struct {
	f    procFS
	name string
	disk.File
}

func (p *procFile) do(k kind, op string) error { _, err := p.f.on(k, op, p.name); return err }

func (p *procFile) Read(b []byte) (int, error) {
	if err := p.do(look, "read"); err != nil {
		return 0, err
	}
	return p.File.Read(b)
}

func (p *procFile) ReadAt(b []byte, off int64) (int, error) {
	if err := p.do(look, "read"); err != nil {
		return 0, err
	}
	return p.File.ReadAt(b, off)
}

func (p *procFile) Write(b []byte) (int, error) {
	if err := p.do(grow, "write"); err != nil {
		return 0, err
	}
	return p.File.Write(b)
}

func (p *procFile) Sync() error {
	if err := p.do(settle, "sync"); err != nil {
		return err
	}
	return p.File.Sync()
}

func (p *procFile) Truncate(n int64) error {
	if err := p.do(change, "truncate"); err != nil {
		return err
	}
	return p.File.Truncate(n)
}
