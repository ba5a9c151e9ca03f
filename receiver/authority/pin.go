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

// PinFile returns the path of the file that records the pin of the CA. The file is beside
// the config, because the authority's folder may be on a disk that is not mounted.
func PinFile(configPath string) string { return filepath.Join(filepath.Dir(configPath), "ca", "pin") }

// checkNoPin returns an error if this machine had a CA, so that none is created while the
// disk with the authority's folder is not mounted, or lost.
func (a *Authority) checkNoPin() error {
	if a.o.PinFile == "" {
		return nil
	}
	pin, err := disk.ReadFile(a.o.FS, a.o.PinFile, disk.Small)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir := filepath.Dir(a.path(KeyFile))
	if err != nil {
		return fault.Fix(fmt.Errorf("find out whether this machine had a CA: %w", err),
			"sudo cis490 install receiver   # repairs the file's permissions")
	}
	return fault.Fix(fmt.Errorf("%s has no CA, and this machine had one, with pin %.80q", dir, string(pin)),
		"findmnt -T "+dir+"; sudo mount -a   # mounts its disk. If the disk is lost: sudo cis490 restore. "+
			"To begin with a new CA, which every host has to join again: sudo rm "+a.o.PinFile)
}

// recordPin records the pin of the CA, if the file's folder exists.
func (a *Authority) recordPin() error {
	if a.o.PinFile == "" || !disk.Exists(a.o.FS, filepath.Dir(a.o.PinFile)) {
		return nil
	}
	pin := string(pki.PinOf(a.ca.Cert)) + "\n"
	if have, err := disk.ReadFile(a.o.FS, a.o.PinFile, disk.Small); err == nil && string(have) == pin {
		return nil
	}
	if err := disk.ReplaceBytes(a.o.FS, a.o.PinFile, publicMode, []byte(pin)); err != nil {
		return fmt.Errorf("record the pin of the CA: %w", err)
	}
	return nil
}
