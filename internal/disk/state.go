package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// ErrDamaged reports a state file that was read, but cannot be decoded.
var ErrDamaged = errors.New("cannot decode it")

// Damaged is the suffix of a state file that was set aside.
const Damaged = ".damaged"

// ReadState decodes a program's own state, a JSON file of at most limit bytes. Without the
// file it returns the zero value.
//
// All programs follow one rule: a state file that cannot be read is not overwritten, because
// a later read may succeed. Programs of a lab host, where nobody can log in, set it aside
// after UnreadFor. One that cannot be decoded (ErrDamaged) is set aside at once.
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

// UnreadFor is how long a lab host's program waits for a state file that cannot be read.
const UnreadFor = time.Hour

// SetAside renames a state file, so that a new one can begin.
func SetAside(fsys FS, path string) error {
	if err := fsys.Rename(path, path+Damaged); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}
