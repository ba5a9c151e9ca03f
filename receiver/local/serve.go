package local

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/store"
)

// serveLogs are the logs that serve writes.
type serveLogs struct {
	index      *log[receiver.Entry]
	rejections *log[receiver.Rejection]
	silences   *log[receiver.Silence]
}

// served is the open store with everything that was opened for it.
type served struct {
	*store.Store
	index   *log[receiver.Entry]
	closers []io.Closer // in the order of opening
}

// serve opens the data folder for uploads. After an error nothing is open.
func (o Options) serve(logs serveLogs) (_ receiver.Store, err error) {
	s := &served{index: logs.index}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := o.placed(); err != nil {
		return nil, err
	}
	// Before anything is made in the data folder.
	if err := store.Vanished(o.FS, o.Dir, o.Known, o.hasRows); err != nil {
		return nil, err
	}
	if err := disk.MkdirAll(o.FS, o.Dir, 0o750); err != nil {
		return nil, fault.Fix(fmt.Errorf("open data folder: %w", err), "sudo cis490 install receiver   # makes it, with the right owner")
	}
	// Lease before anything is opened: opening a log cuts what another running receiver may
	// be writing.
	lease, err := o.lease(receiver.Serving)
	if err != nil {
		return nil, fault.Fix(fmt.Errorf("open data folder: %w", err),
			"systemctl status cis490-receiver   # one receiver at a time may have "+o.Dir)
	}
	s.closers = append(s.closers, lease, logs.silences)
	for _, l := range []interface {
		Open() error
		Close() error
	}{logs.rejections, logs.index} {
		if err := l.Open(); err != nil {
			return nil, err
		}
		s.closers = append(s.closers, l)
	}
	s.Store, err = store.Open(store.Options{
		FS: o.FS, DataDir: o.Dir, Index: logs.index, Reserve: o.Reserve, Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.Store)
	if err := store.Remember(o.FS, o.Known, s.ID()); err != nil {
		o.Log.Warn("cannot remember the store's id; a new store is made if its disk is away at the next start", "err", err)
	}
	return s, nil
}

// Conditions tests what an upload needs.
func (s *served) Conditions(thorough bool) []receiver.Condition {
	var missing []receiver.Condition
	for _, c := range []receiver.Condition{
		{What: "index", Err: s.index.Healthy()},
		{What: "store", Err: s.Writable(thorough)},
		{What: "rows", Err: s.Settle()},
		{What: "space", Err: s.Room(0)},
	} {
		if c.Err != nil {
			missing = append(missing, c)
		}
	}
	return missing
}

// Close closes what serve opened, in reverse order.
func (s *served) Close() (err error) {
	for _, c := range slices.Backward(s.closers) {
		err = errors.Join(err, c.Close())
	}
	s.closers = nil
	return err
}
