package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"cis490/receiver"
	"cis490/receiver/objects"
	"cis490/receiver/store"
)

// putTimeout bounds the upload of one object with all its tries.
const putTimeout = 15 * time.Minute

// served is the open store.
type served struct {
	receiver.Store // of the base: lease, logs, id, and the state of the data folder
	o              Options
	claims         *claims
	newest         newest
	spool          *spool
	places         places
	state          state
	keys           store.Locks

	began time.Time       // by the store's clock; zero: the store was away
	ctx   context.Context //nolint:containedctx // ends with the store, because its interface has no context
	end   context.CancelFunc
	ended sync.WaitGroup

	archiving sync.Mutex
}

func (o Options) serve() (_ receiver.Store, err error) {
	base, err := o.Base.Serve()
	if err != nil {
		return nil, err
	}
	s := &served{
		Store: base, o: o, spool: newSpool(o), state: state{bad: errNotAsked, wake: make(chan struct{}, 1)},
		places: places{most: max(1, o.Uploads), now: float64(max(1, o.Uploads))},
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.spool.early = s.early
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if o.Base.Rows != nil {
		return o.share(s)
	}
	var oldest time.Time
	if s.claims, oldest, err = openClaims(o.FS, o.Dir, o.Now()); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, k := range s.claims.keys() {
		s.newest.add(k)
	}
	if err := s.dropIndexed(oldest); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.begin()
	return s, nil
}

// begin probes the bucket now and from time to time.
func (s *served) begin() {
	if err := s.probe(); err != nil {
		s.o.Log.Warn("object store cannot be used", "store", s.o.Bucket.Name(), "err", err)
	} else {
		s.began = s.o.Now().Add(s.o.Bucket.Skew())
		s.settleAll()
	}
	s.ended.Add(1)
	go s.watch()
}

// dropIndexed removes claims whose row was appended before the last process ended. It reads
// rows from a day before the oldest claim, because the clock may have been set back.
func (s *served) dropIndexed(oldest time.Time) error {
	if len(s.claims.all) == 0 {
		return nil
	}
	for row, err := range s.o.Base.Index.Since(oldest.Add(-24 * time.Hour)) {
		if err != nil {
			return err
		}
		for _, c := range s.claims.of(row.Key()) {
			if c.Digest == row.Digest {
				if err := s.claims.drop(c.Entry); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settleAll resolves all claims: an object that exists gets its row, and a claim without an
// object is removed after the grace period.
func (s *served) settleAll() {
	for _, k := range s.claims.keys() {
		if s.ctx.Err() != nil {
			return
		}
		if err := s.settleOne(k); err != nil {
			s.o.Log.Warn("cannot resolve an interrupted upload yet", "host", k.Host, "episode", k.Episode, "err", err)
			s.state.note(err)
			return
		}
	}
}

func (s *served) settleOne(k receiver.Key) error {
	defer s.keys.Lock(k)()
	ctx, cancel := context.WithTimeout(s.ctx, lookupTimeout)
	defer cancel()
	if _, _, err := s.lookup(ctx, k); err != nil {
		return err
	}
	for _, c := range s.claims.of(k) { // superseded, or without an object
		if s.o.Now().Sub(c.since) < grace {
			continue
		}
		if all, err := s.o.contents(ctx, k); err != nil || has(all, c.Entry) && !s.o.Bucket.CanDelete() {
			return err
		} else if has(all, c.Entry) {
			if err := s.o.Bucket.Delete(ctx, keyOf(c.Entry)); err != nil {
				return err
			}
		}
		if err := s.claims.drop(c.Entry); err != nil {
			return err
		}
	}
	return nil
}

func has(all []receiver.Entry, e receiver.Entry) bool {
	for _, x := range all {
		if name(x) == name(e) {
			return true
		}
	}
	return false
}

// Receive spools, admits, claims and sends an upload, and appends its row. Most of a fast
// upload is sent while it arrives.
func (s *served) Receive(u receiver.Upload, body io.Reader, admit func() error) (receiver.Entry, bool, error) {
	return s.take(u, body, admit, s.put)
}

// put stores what was spooled. It reports whether the object store has all of it.
type put func(ctx context.Context, e receiver.Entry, sp *spooled) (have receiver.Entry, created, sent bool, err error)

// take spools and admits an upload, and has it stored.
func (s *served) take(u receiver.Upload, body io.Reader, admit func() error, store put) (e receiver.Entry, created bool, err error) {
	if err := s.state.err(); err != nil {
		return e, false, answered(err)
	}
	if !s.places.enter() {
		return e, false, fmt.Errorf("%w: the object store is at its limit of concurrent uploads", receiver.ErrBusy)
	}
	defer func() { s.places.leave(err, s.o.Now()) }()
	sp, err := s.spool.take(u, body)
	if err != nil {
		return e, false, err
	}
	sent := false
	defer func() { err = errors.Join(err, sp.end(sent)) }()
	if err := admit(); err != nil {
		return e, false, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, putTimeout)
	defer cancel()
	e = receiver.Entry{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Size: u.Size, Commit: u.Commit}
	defer s.keys.Lock(e.Key())()
	e, created, sent, err = store(ctx, e, sp)
	return e, created, err
}

// put stores an upload with a claim, and appends its row.
func (s *served) put(ctx context.Context, e receiver.Entry, sp *spooled) (have receiver.Entry, created, sent bool, err error) {
	have, stored, err := s.lookup(ctx, e.Key())
	switch {
	case err != nil:
		return e, false, false, err
	case stored && have.Digest != e.Digest:
		return have, false, false, receiver.ErrConflict
	case stored:
		return have, false, false, nil
	}
	if err := s.send(ctx, e, sp); err != nil {
		return e, false, false, err
	}
	rows := []receiver.Entry{e}
	if err := s.o.Base.Index.Append(rows); err != nil {
		return e, false, true, fmt.Errorf("index episode: %w", err) // the claim stays: the next lookup resolves it
	}
	if err := s.claims.drop(e); err != nil {
		s.o.Log.Warn("cannot remove a claim", "host", e.Host, "episode", e.Episode, "err", err)
	}
	return rows[0], true, true, nil
}

// send claims and sends an object. After an error its claim stays, because the object may
// still appear.
func (s *served) send(ctx context.Context, e receiver.Entry, sp *spooled) error {
	if err := s.claims.add(e, s.o.Now()); err != nil {
		return err
	}
	s.newest.add(e.Key())
	return s.upload(ctx, e, sp)
}

func (s *served) early(u receiver.Upload, body io.ReaderAt) *early {
	key := keyOf(receiver.Entry{Host: u.Host, Episode: u.Episode, Digest: u.Digest, Commit: u.Commit})
	return newEarly(s.ctx, s.o.Now, body, u.Size, func(ctx context.Context, body io.Reader) error {
		return s.o.Bucket.Stream(ctx, key, body, u.Size, u.Digest)
	})
}

// upload sends what is left of an early body, or else the whole body.
func (s *served) upload(ctx context.Context, e receiver.Entry, sp *spooled) error {
	if sp.early.finish() == nil {
		return nil
	}
	if err := s.o.Bucket.Put(ctx, keyOf(e), sp, e.Size, e.Digest); err != nil {
		s.state.note(err)
		return fmt.Errorf("store episode: %w", answered(err))
	}
	return nil
}

// Conditions returns the conditions of the base and of the bucket.
func (s *served) Conditions(thorough bool) []receiver.Condition {
	missing := s.Store.Conditions(thorough)
	switch err := s.state.err(); {
	case errors.Is(err, objects.ErrFull):
		missing = append(missing, receiver.Condition{What: "space", Err: err})
	case err != nil:
		missing = append(missing, receiver.Condition{What: "object store", Err: err})
	}
	return missing
}

// Close cancels operations in progress and closes the base.
func (s *served) Close() error {
	s.end()
	s.ended.Wait()
	return s.Store.Close()
}

// id returns the id of the store in the data folder or the database; empty if it is not known.
func (o Options) id() string {
	if o.Base.Rows != nil {
		id, _ := o.Base.Rows.ID() // the database has checks of its own
		return id
	}
	return strings.TrimSpace(store.ID(o.FS, o.Dir))
}

// archived returns the row of an episode that was moved out.
func (o Options) archived(ctx context.Context, k receiver.Key) (receiver.Entry, bool, error) {
	if o.Base.Rows != nil {
		e, found, err := o.Base.Rows.Find(ctx, k)
		return e, found && e.Archived, err
	}
	return store.Archived(o.FS, o.Dir, k)
}
