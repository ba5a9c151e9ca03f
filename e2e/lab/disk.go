package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// mountOverlay mounts a host's disk at root. Changes to the image go to changes/upper.
func mountOverlay(image, changes, root string) error {
	upper, work := filepath.Join(changes, "upper"), filepath.Join(changes, "work")
	for _, d := range []string{upper, work, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make a disk: %w", err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", image, upper, work)
	if err := syscall.Mount("cis490-lab", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay %s (does $%s point to a real disk?): %w", root, cacheVariable, err)
	}
	return nil
}

// A tmpfs is a small disk of a host. It is mounted outside the host's mount namespace, so
// it survives a reboot.
type tmpfs struct{ path, size string }

func (t tmpfs) mountIn(root string) error {
	dir := filepath.Join(root, t.path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a small disk: %w", err)
	}
	if err := syscall.Mount("cis490-lab", dir, "tmpfs", 0, "mode=755,size="+t.size); err != nil {
		return fmt.Errorf("mount tmpfs %s of size %q: %w", t.path, t.size, err)
	}
	return nil
}

type mount struct{ path, kind string }

// mounts lists the mounts of this machine, in the order of mounting.
func mounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)
	var list []mount
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(kind) > 0 {
			list = append(list, mount{path: unescape.Replace(fields[4]), kind: kind[0]})
		}
	}
	return list, nil
}

// removeTree unmounts everything below dir and removes dir. If a mount stays, it removes
// nothing, because the mount could lead anywhere.
func removeTree(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove a tree: %w", err)
	}
	return nil
}

func unmountBelow(dir string) error {
	mounted, err := mounts()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounted) {
		if m.path != dir && !strings.HasPrefix(m.path, dir+"/") {
			continue
		}
		err := syscall.Unmount(m.path, 0)
		if errors.Is(err, syscall.EBUSY) { // the working directory of a process
			err = syscall.Unmount(m.path, syscall.MNT_DETACH)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", m.path, err)
		}
	}
	return nil
}
