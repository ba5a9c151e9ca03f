package authority

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/pki"
)

// KnownFile returns where the authority notes the pin of its CA: beside the config,
// because its own folder may be on a disk that is not mounted.
func KnownFile(configPath string) string { return filepath.Join(filepath.Dir(configPath), "ca", "pin") }

// neverKnown refuses to make a CA on a machine that has had one: its folder is empty, so
// its disk is not mounted, or it is lost.
func (a *Authority) neverKnown() error {
	if a.o.Known == "" {
		return nil
	}
	pin, err := disk.ReadFile(a.o.FS, a.o.Known, disk.Small)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Dir(a.path(KeyFile))
	if err != nil {
		return fault.Fix(fmt.Errorf("find out whether this machine had a CA: %w", err), "sudo cis490 install receiver   # puts back who may read it")
	}
	return fault.Fix(fmt.Errorf("%s has no CA, and this machine had one, with pin %.80q", dir, string(pin)),
		"findmnt -T "+dir+"; sudo mount -a   # is its disk mounted? if it is lost: sudo cis490 restore; or, with which all hosts join again: sudo rm "+a.o.Known)
}

// remember notes the CA, where there is a folder for it.
func (a *Authority) remember() error {
	if a.o.Known == "" || !disk.Exists(a.o.FS, filepath.Dir(a.o.Known)) {
		return nil
	}
	pin := string(pki.PinOf(a.ca.Cert)) + "\n"
	if have, err := disk.ReadFile(a.o.FS, a.o.Known, disk.Small); err == nil && string(have) == pin {
		return nil
	}
	if err := disk.ReplaceBytes(a.o.FS, a.o.Known, publicMode, []byte(pin)); err != nil {
		return fmt.Errorf("note which CA this machine has: %w", err)
	}
	return nil
}
