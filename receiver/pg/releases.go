package pg

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"

	"cis490/internal/manifest"
	"cis490/receiver"
)

// releases are those of the data folder, with their progress in the database: one receiver
// advances it, all offer by it.
type releases struct {
	receiver.Releases
	docs   docs
	copies func() (bool, error)
}

// Give refuses orders on a receiver whose files another one's replace.
func (r releases) Give(o manifest.Order) error {
	if r.copies != nil {
		if copies, err := r.copies(); err != nil || copies {
			return cmp.Or(err, receiver.ErrCopies)
		}
	}
	return r.Releases.Give(o)
}

// Rollout decodes the document.
func (r releases) Rollout() (out manifest.Rollout, err error) {
	b, err := r.LoadRollout()
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

// LoadRollout loads the document or, before the first Save, the file of a receiver that was alone.
func (r releases) LoadRollout() ([]byte, error) {
	b, err := r.docs.Load(receiver.RolloutDoc, manifest.MaxRollout)
	if errors.Is(err, fs.ErrNotExist) {
		return r.Releases.LoadRollout()
	}
	return b, err
}

// SaveRollout replaces the document, if this process has the lease.
func (r releases) SaveRollout(content []byte) error { return r.docs.Save(receiver.RolloutDoc, content) }
