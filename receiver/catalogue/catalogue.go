// Package catalogue is a side index of the stored episodes: by host, profile, verdict,
// class, commit, digest and time.
//
// It is derived from the index and the tarballs, and can be removed at any time: Run builds
// it in the background and keeps it up to date, after episodes were acknowledged. A power
// cut leaves the state of an earlier moment, from which Run continues; a file that is
// damaged, of another store or of another version is rebuilt.
//
//storage:files a derived index, beside the state
package catalogue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"cis490/internal/disk"
	"cis490/internal/episode"
)

// version is the version of the layout. After a change the catalogue is rebuilt.
const version = "2"

// openFor bounds the wait for another process that has the file.
const openFor = 2 * time.Second

// Catalogue is an open catalogue. Its methods may be used by many goroutines.
type Catalogue struct {
	db     *bbolt.DB
	limits episode.Limits
}

// The buckets, and the keys of the last one. Digests have a bucket of their own: new ones
// come between old ones, so their pages need free space.
func rowsBucket() []byte    { return []byte("rows") }
func indexBucket() []byte   { return []byte("index") }
func digestsBucket() []byte { return []byte("digests") }
func metaBucket() []byte    { return []byte("meta") }
func keyVersion() []byte    { return []byte("version") }
func keyReached() []byte    { return []byte("reached") }
func keyCount() []byte      { return []byte("count") }

// fullPages is the fill ratio of pages that are mostly appended to.
const fullPages = 0.9

// listsOf returns the bucket of an index key.
func listsOf(tx *bbolt.Tx, key []byte) *bbolt.Bucket {
	if key[0] == byte(tagDigest) {
		return tx.Bucket(digestsBucket())
	}
	return tx.Bucket(indexBucket())
}

// ErrBusy reports that another process has the catalogue open.
var ErrBusy = errors.New("another process has the catalogue")

// ErrDamaged reports that the file cannot be used any more: Remove it.
var ErrDamaged = errors.New("the catalogue is damaged")

// Remove removes a catalogue that no process has open.
func Remove(path string) error {
	if err := (disk.OS{}).Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove catalogue: %w", err)
	}
	return nil
}

// guard turns a panic into an error. bbolt panics at a damaged page, and the runtime at a
// page that the disk cannot read.
func guard(err *error) func() {
	fault := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(fault)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}
}

// Open opens the catalogue of a store for Run. Only the process that serves may call it.
// Episodes beyond the limits are refused. It recreates a file that is unusable, of another
// store or with other limits.
func Open(path, storeID string, limits episode.Limits) (*Catalogue, error) {
	want := fmt.Sprint(version, " ", storeID, " ", limits)
	c, err := open(path, false)
	if errors.Is(err, ErrBusy) {
		return nil, err
	}
	if err == nil {
		if c.version() == want {
			c.limits = limits
			return c, nil
		}
		err = c.Close()
	}
	if removing := Remove(path); removing != nil {
		return nil, errors.Join(err, removing)
	}
	if c, err = open(path, false); err != nil {
		return nil, err
	}
	c.limits = limits
	err = c.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{rowsBucket(), indexBucket(), digestsBucket(), metaBucket()} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket()).Put(keyVersion(), []byte(want))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the catalogue: %w", err), c.Close())
	}
	return c, nil
}

// Read opens a catalogue that no process serves, to query it.
func Read(path string) (*Catalogue, error) {
	if _, err := (disk.OS{}).Lstat(path); err != nil {
		return nil, err
	}
	return open(path, true)
}

func open(path string, readOnly bool) (c *Catalogue, err error) {
	defer guard(&err)()
	// With NoFreelistSync, bbolt would search for free pages in its own goroutine, where a
	// damaged page ends the process.
	db, err := bbolt.Open(path, 0o640, &bbolt.Options{
		Timeout: openFor, ReadOnly: readOnly, FreelistType: bbolt.FreelistMapType,
	})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrBusy, path)
	case err != nil:
		return nil, fmt.Errorf("open catalogue %s: %w", path, err)
	}
	return &Catalogue{db: db}, nil
}

// Close closes the file.
func (c *Catalogue) Close() error { return c.db.Close() }

// version returns what Open wrote, or "" if the file is not a whole catalogue.
func (c *Catalogue) version() (v string) {
	_ = c.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(metaBucket()); b != nil && tx.Bucket(rowsBucket()) != nil && tx.Bucket(indexBucket()) != nil &&
			tx.Bucket(digestsBucket()) != nil {
			v = string(b.Get(keyVersion()))
		}
		return nil
	})
	return v
}

// view runs a read transaction.
func (c *Catalogue) view(f func(*bbolt.Tx) error) (err error) {
	defer guard(&err)()
	return c.db.View(f)
}

// Reached returns the time of the last row of the index that the catalogue has, and how many
// episodes it has.
func (c *Catalogue) Reached() (at time.Time, episodes int, err error) {
	err = c.view(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket())
		if b := meta.Get(keyReached()); len(b) == 8 {
			at = time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
		}
		if b := meta.Get(keyCount()); len(b) == 8 {
			episodes = int(binary.BigEndian.Uint64(b))
		}
		return nil
	})
	return at, episodes, err
}

// put stores rows, and how far the index was read, in one transaction. Keys are put in
// their order, so that each page is changed once; rows and lists mostly grow at their ends,
// so their pages are filled.
func (c *Catalogue) put(rows []Row, reached time.Time) (err error) {
	defer guard(&err)()
	return c.db.Update(func(tx *bbolt.Tx) error {
		all, meta := tx.Bucket(rowsBucket()), tx.Bucket(metaBucket())
		all.FillPercent, tx.Bucket(indexBucket()).FillPercent = fullPages, fullPages
		count := uint64(0)
		if b := meta.Get(keyCount()); len(b) == 8 {
			count = binary.BigEndian.Uint64(b)
		}
		var keys [][]byte
		for _, r := range rows {
			key := r.key()
			if old := all.Get(key); old == nil {
				count++
			} else if was, err := decode(key, old); err == nil {
				for _, k := range was.entries() {
					if err := listsOf(tx, k).Delete(k); err != nil {
						return err
					}
				}
			}
			value, err := json.Marshal(r)
			if err == nil {
				err = all.Put(key, value)
			}
			if err != nil {
				return err
			}
			keys = append(keys, r.entries()...)
		}
		slices.SortFunc(keys, bytes.Compare)
		for _, k := range keys {
			if err := listsOf(tx, k).Put(k, nil); err != nil {
				return err
			}
		}
		return errors.Join(meta.Put(keyCount(), binary.BigEndian.AppendUint64(nil, count)),
			meta.Put(keyReached(), binary.BigEndian.AppendUint64(nil, uint64(reached.UnixNano()))))
	})
}
