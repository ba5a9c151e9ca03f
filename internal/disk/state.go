package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// ErrDamaged reports a state file that was read, but cannot be decoded.
var ErrDamaged = errors.New("cannot decode it")

// Damaged is the suffix of a state file that was set aside.
const Damaged = ".damaged"

// ReadState decodes a program's own state, a JSON file of at most limit bytes. Without the
// file it returns the zero value.
//
// All programs follow one rule: a state file that cannot be read is not overwritten, because
// a later read may succeed. One that cannot be decoded (ErrDamaged) is set aside first.
func ReadState[T any](fsys FS, path string, limit int64) (v T, err error) {
	b, err := ReadFile(fsys, path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		var empty T
		return empty, fmt.Errorf("read %s: %w: %w", path, ErrDamaged, err)
	}
	return v, nil
}

// SetAside renames a state file, so that a new one can begin.
func SetAside(fsys FS, path string) error {
	if err := fsys.Rename(path, path+Damaged); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}
