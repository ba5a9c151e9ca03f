package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
)

// knownFile lists the ids of the stores that serve used on this machine, one on each
// line, the last one at the end.
const knownFile = "ids"

// expected is a folder beside the list. While it exists, any store is accepted. It is a
// folder because mkdir(1) as root does not follow a link that serve's user may have made.
const expected = "new"

// maxKnown is how many ids are stored.
const maxKnown = 16

// KnownDir returns the folder in which serve stores the ids of its stores. It is beside
// the config, because the data folder may be on a disk that is not mounted.
func KnownDir(configPath string) string { return filepath.Join(filepath.Dir(configPath), "store") }

// Vanished returns an error if the data folder has no store, or an older one than the one
// that was used last. It accepts a store that was never used here, and one without an id
// whose index has rows. Without a folder of known ids it returns nil.
func Vanished(fsys disk.FS, dataDir, knownDir string, hasRows func() bool) error {
	//off:alarm_OtherDisk
	if knownDir == "" {
		return nil
	}
	id, err := readID(fsys, dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	path := filepath.Join(knownDir, knownFile)
	known, err := readKnown(fsys, knownDir)
	switch {
	case err != nil && id == "":
		return fault.Fix(fmt.Errorf("%w, or there was none: %w", receiver.ErrVanished, err),
			"sudo cis490 install receiver   # puts back who may read "+path)
	case err != nil, len(known) == 0, id == known[len(known)-1], disk.Exists(fsys, filepath.Join(knownDir, expected)):
		return nil // without a readable list, any store is accepted
	case id != "" && !slices.Contains(known, id):
		return nil
	}
	what := "%w: %s has none, the last one was %s"
	if id != "" {
		what = "%w: %s has an older one than %s"
	} else if hasRows() {
		return nil
	}
	return fault.Fix(fmt.Errorf(what, receiver.ErrVanished, dataDir, known[len(known)-1]),
		"findmnt -T "+dataDir+"; sudo mount -a   # is its disk mounted? if it is gone for good: sudo mkdir "+filepath.Join(knownDir, expected))
}

// Remember records the id of the store in use, if install has made the folder.
func Remember(fsys disk.FS, knownDir, id string) error {
	if !disk.Exists(fsys, knownDir) {
		return nil
	}
	known, err := readKnown(fsys, knownDir)
	if err != nil { // not overwritten: it may have other ids
		return fault.Fix(err, "sudo cis490 install receiver   # puts back who may read it")
	}
	if len(known) == 0 || known[len(known)-1] != id {
		known = append(slices.DeleteFunc(known, func(old string) bool { return old == id }), id)
		known = known[max(0, len(known)-maxKnown):]
		err = disk.ReplaceBytes(fsys, filepath.Join(knownDir, knownFile), 0o644, []byte(strings.Join(known, "\n")+"\n"))
	}
	if err == nil {
		err = fsys.Remove(filepath.Join(knownDir, expected))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// ExpectAnother makes the next start accept any store, or make a new one.
func ExpectAnother(fsys disk.FS, knownDir string) error {
	if !disk.Exists(fsys, knownDir) {
		return nil
	}
	return disk.MkdirAll(fsys, filepath.Join(knownDir, expected), 0o755)
}

func readKnown(fsys disk.FS, knownDir string) ([]string, error) {
	b, err := disk.ReadFile(fsys, filepath.Join(knownDir, knownFile), disk.Small)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return strings.Fields(string(b)), err
}

// ID returns the id of the store in a data folder; empty if there is none, or it cannot be
// read.
func ID(fsys disk.FS, dataDir string) string {
	id, _ := readID(fsys, dataDir)
	return id
}

// SetID gives a data folder the id of a store whose rows were copied to it.
func SetID(fsys disk.FS, dataDir, id string) error {
	return disk.ReplaceBytes(fsys, filepath.Join(dataDir, IDFile), filePerm, []byte(id+"\n"))
}

func readID(fsys disk.FS, dataDir string) (string, error) {
	b, err := disk.ReadFile(fsys, filepath.Join(dataDir, IDFile), 256)
	return strings.TrimSpace(string(b)), err
}
