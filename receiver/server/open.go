package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ledger"
	"cis490/receiver/contacts"
	"cis490/receiver/gate"
	"cis490/receiver/index"
	"cis490/receiver/store"
)

func (s *Server) opened() bool { return s.closed.Load() == nil }

// open opens the receiver's files and all that works on them. On an error nothing
// is open, and the next try begins anew.
func (s *Server) open() (err error) {
	defer func() {
		if err != nil {
			err = s.blame(err)
			s.closed.Store(&lack{"data", err, false})
			err = errors.Join(err, s.closeFiles())
			return
		}
		s.closed.Store(nil)
	}()
	o, c := s.o, s.o.Config
	known := store.KnownDir(o.ConfigPath)
	// Before anything is made in the data folder.
	if err := store.Vanished(o.FS, c.DataDir, known); err != nil {
		return err
	}
	if err := disk.MkdirAll(o.FS, c.DataDir, 0o750); err != nil {
		return fault.Fix(fmt.Errorf("open data folder: %w", err), "sudo cis490 install receiver   # makes it, with the right owner")
	}
	// Before anything is opened: opening a ledger cuts what a living receiver may
	// be writing.
	if l, ok := o.FS.(disk.Locker); ok {
		if s.lock, err = l.Lock(c.DataDir); err != nil {
			return fault.Fix(fmt.Errorf("open data folder: %w", err),
				"systemctl status cis490-receiver   # one receiver at a time may have "+c.DataDir)
		}
	}
	if s.index, err = index.Open(o.FS, c.DataDir, o.Now); err != nil {
		return err
	}
	s.store, err = store.Open(store.Options{
		FS: o.FS, DataDir: c.DataDir, Index: s.index, Reserve: int64(c.Limits.DiskReserve),
		Now: o.Now, Log: o.Log.With("component", "store"),
	})
	if err != nil {
		return err
	}
	if err := store.Remember(o.FS, known, s.store.ID()); err != nil {
		o.Log.Warn("the store's id is not remembered; if its disk is away at the next start, a new store is made", "err", err)
	}
	notes := contacts.Options{
		FS: o.FS, DataDir: c.DataDir, Version: o.Build.Version, Now: o.Now, Clock: o.Clock, Log: o.Log.With("component", "contacts"),
	}
	if s.refusals, err = contacts.OpenRefusals(notes); err != nil {
		return err
	}
	if s.snapshots, err = contacts.OpenSnapshots(o.FS, c.DataDir); err != nil {
		return err
	}
	s.contacts = contacts.Open(notes)
	rules := gate.Options{Own: o.Build.Commit, FS: o.FS, Path: o.ConfigPath, Log: o.Log.With("component", "gate")}
	if o.Releases != nil {
		rules.Released, rules.Blocked = o.Releases.Commits, o.Releases.Blocked
	}
	s.gate = gate.New(rules)
	s.gate.Refresh()
	s.metrics = s.measures()
	if s.web, err = s.dashboard(); err != nil {
		return err
	}
	s.quotas = newQuotas(int64(c.Limits.HostQuota), int64(c.Limits.HostHourly), o.Now)
	if s.began, err = s.afterRows(); err != nil {
		return err
	}
	s.mux = s.newMux()
	s.health.forget()
	return nil
}

// afterRows returns the time from which on rows are this run's: now, or where the
// clock is behind, after the last row that is there.
func (s *Server) afterRows() (time.Time, error) {
	now := s.o.Now()
	last, _, err := ledger.Last(s.o.FS, filepath.Join(s.o.Config.DataDir, index.File), index.TimeKey)
	if err != nil || last.At.Before(now) {
		return now, err
	}
	return last.At.Add(1), nil
}

func (s *Server) closeFiles() (err error) {
	if s.store != nil {
		err = s.store.Close()
	}
	if s.index != nil {
		err = errors.Join(err, s.index.Close())
	}
	if s.refusals != nil {
		err = errors.Join(err, s.refusals.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	s.store, s.index, s.refusals, s.lock = nil, nil, nil, nil
	return err
}

// blame says whose a file is that could not be used, or what else is the matter
// with it, and what mends that.
func (s *Server) blame(err error) error {
	path := s.o.Config.DataDir
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		path = at.Path
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		// A file that is not there yet, or is ours, is its folder's matter.
		for ; ; path = filepath.Dir(path) {
			fi, stat := s.o.FS.Lstat(path)
			if stat == nil && ownerOf(fi) != os.Geteuid() {
				me := userName(os.Geteuid())
				return fault.Fix(fmt.Errorf("%w: %s belongs to %s, serve runs as %s", err, path, userName(ownerOf(fi)), me), "sudo chown "+me+": "+path)
			}
			if path == s.o.Config.DataDir || path == filepath.Dir(path) {
				return err
			}
		}
	case errors.Is(err, unix.EISDIR):
		return fault.Fix(err, "sudo mv "+path+" "+path+".away   # a folder is where the file belongs")
	case errors.Is(err, unix.EROFS):
		return fault.Fix(err, "sudo dmesg | tail; findmnt -T "+path+"   # mount it for writing again")
	case errors.Is(err, unix.EIO) && fault.FixOf(err) == "":
		return fault.Fix(err, "sudo dmesg | tail; findmnt -T "+path+"   # the disk fails: mend it, or move the receiver to another one")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.Fix(err, "df -h "+path+"   # free space there")
	}
	return err
}

// ownerOf returns a file's user, or this process's where a disk has none.
func ownerOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
