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
	if LedgerOf(o.FS, o.Dir) != "" {
		return fault.Fix(fmt.Errorf("the rows of %s are in a database (%s)", o.Dir, LedgerFile),
			`set [ledger] backend = "postgres" in receiver.toml   # or move them: sudo cis490 store copy --help`)
	}
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

// LedgerFile says that the rows of a data folder are in a database.
const LedgerFile = "ledger.json"

type ledgerPlace struct {
	V        int    `json:"v"`
	Receiver string `json:"receiver"` // of several on one database
}

// LedgerOf returns the id of the receiver whose rows are in a database; empty: they are in
// the data folder.
func LedgerOf(fsys disk.FS, dir string) string {
	b, err := disk.ReadFile(fsys, filepath.Join(dir, LedgerFile), disk.Small)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	var p ledgerPlace
	if err != nil || json.Unmarshal(b, &p) != nil || p.Receiver == "" {
		return "unknown"
	}
	return p.Receiver
}

// SetLedger notes that the rows of a data folder are in a database.
func SetLedger(fsys disk.FS, dir, id string) error {
	b, err := json.Marshal(ledgerPlace{1, id})
	if err != nil {
		return err
	}
	return disk.ReplaceBytes(fsys, filepath.Join(dir, LedgerFile), 0o644, append(b, '\n'))
}

// ClearLedger notes that the rows of a data folder are in its files.
func ClearLedger(fsys disk.FS, dir string) error {
	if err := fsys.Remove(filepath.Join(dir, LedgerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(dir)
}
