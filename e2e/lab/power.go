package lab

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WithDisk gives the host an ext4 of its own, for CutPower. Size is as in truncate(1).
func WithDisk(size string) Option { return func(h *Host) { h.disk = size } }

// changes returns the folder with the host's changes to its image.
func (h *Host) changes() string {
	if h.disk != "" {
		return filepath.Join(h.dir, "disk")
	}
	return h.dir
}

// format makes the host's disk.
func (h *Host) format() error {
	if err := os.MkdirAll(h.changes(), 0o755); err != nil || h.disk == "" {
		return err
	}
	if _, err := output(h.dir, "truncate", "--size="+h.disk, "disk.ext4"); err != nil {
		return err
	}
	_, err := output(h.dir, "mkfs.ext4", "-q", "-E", "nodiscard", "disk.ext4")
	return err
}

// mount mounts what the host has on this machine.
func (h *Host) mount() error {
	if h.disk != "" {
		if _, err := output(h.dir, "mount", "-o", "loop", "disk.ext4", h.changes()); err != nil {
			return err
		}
	}
	if err := mountOverlay(h.image, h.changes(), h.root()); err != nil {
		return err
	}
	for _, t := range h.tmpfs {
		if err := t.mountIn(h.root()); err != nil {
			return err
		}
	}
	return nil
}

// CutPower stops a host that has a disk of its own. What was not durable is lost: ext4
// stops at once, with the journal as it is (EXT4_IOC_SHUTDOWN in ext4's ioctl.c). The next
// Start is from a copy of the disk, and replays the journal: while another container that
// began meanwhile has the old disk in its mount namespace, a mount of it would be of the
// file system that has stopped.
func (h *Host) CutPower() {
	h.lab.tb.Helper()
	h.mustBeOn("cut the power")
	err := shutdownExt4(h.changes())
	if err == nil {
		h.halt("cut the power")
		err = unmountBelow(h.dir)
	}
	if err == nil {
		_, err = output(h.dir, "sh", "-c", "cp --sparse=always disk.ext4 disk.copy && mv disk.copy disk.ext4")
	}
	if err == nil {
		err = h.mount()
	}
	if err != nil {
		h.lab.tb.Fatalf("lab: cut the power of %s: %v", h.Name, err)
	}
}

// shutdownExt4 stops a file system. Every later call on it fails with EIO.
func shutdownExt4(dir string) error {
	const shutdown, noLogFlush = 0x8004587d, 2 // _IOR('X', 125, __u32)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlSetPointerInt(fd, shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut down %s: %w", dir, err)
	}
	return nil
}
