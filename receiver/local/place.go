package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cis490/internal/disk"
	"cis490/internal/fault"
)

// PlaceFile says where the tarballs are, if they are not in the data folder. It decides
// which of several copies is the store.
const PlaceFile = "tarballs.json"

type place struct {
	V        int    `json:"v"`
	Tarballs string `json:"tarballs"`
}

// Place returns where the tarballs of a data folder are; empty: in it.
func Place(fsys disk.FS, dir string) (string, error) {
	b, err := disk.ReadFile(fsys, filepath.Join(dir, PlaceFile), disk.Small)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var p place
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err == nil && p.V != 1 {
		err = fmt.Errorf("version %d is not known", p.V)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Join(dir, PlaceFile), err)
	}
	return p.Tarballs, nil
}

// SetPlace notes where the tarballs are from now on.
func SetPlace(fsys disk.FS, dir, at string) error {
	b, err := json.Marshal(place{1, at})
	if err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, filepath.Join(dir, PlaceFile), 0o644, append(b, '\n'))
}

// placed returns an error if the tarballs are not where the config says.
func (o Options) placed() error {
	at, err := Place(o.FS, o.Dir)
	if err != nil || at == o.Place {
		return err
	}
	fix := "mend [store] in receiver.toml   # or move them: sudo cis490 store copy --help"
	switch {
	case at == "" && o.hasRows():
		return fault.Fix(fmt.Errorf("the tarballs are in %s, not in %s", o.Dir, o.Place), fix)
	case at == "":
		return fault.Fix(fmt.Errorf("%s is not this store's yet", o.Place), "sudo cis490 store init")
	case o.Place == "":
		return fault.Fix(fmt.Errorf("the tarballs are in %s, not in %s", at, o.Dir), fix)
	}
	return fault.Fix(fmt.Errorf("the tarballs are in %s, not in %s", at, o.Place), fix)
}
