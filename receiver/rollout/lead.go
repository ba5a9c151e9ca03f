package rollout

import (
	"bytes"
	"errors"
	"io/fs"

	"cis490/receiver"
)

// leads reports whether this receiver advances releases. A new leader continues from what the last
// one stored.
func (r *Controller) leads() (bool, error) {
	if r.o.Lease == nil || r.lease != nil {
		return true, nil
	}
	lease, err := r.o.Lease()
	if errors.Is(err, receiver.ErrLeased) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.lease = lease
	if err := r.load(); err != nil {
		return false, errors.Join(err, r.resign())
	}
	r.o.Log.Info("this receiver advances releases")
	return true, nil
}

// resign ends the lease.
func (r *Controller) resign() (err error) {
	if r.lease != nil {
		err = r.lease.Close()
	}
	r.lease = nil
	return err
}

// follow reads what the receiver that advances releases stored.
func (r *Controller) follow() error {
	b, err := r.o.Releases.LoadRollout()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case bytes.Equal(b, r.loaded):
		return nil
	}
	return r.load()
}
