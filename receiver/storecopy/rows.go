package storecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"cis490/internal/clock"
	"cis490/receiver"
	"cis490/receiver/contacts"
)

// RowsResult is how many rows and documents were copied.
type RowsResult struct {
	Rows      int `json:"rows"`      // of the index
	Others    int `json:"others"`    // rejections, alerts and silences
	Documents int `json:"documents"` // that differed
}

// maxDocument bounds a document, in bytes.
const maxDocument = 256 << 20

// Index copies the rows of the index that the other backend does not have. It compares those
// since a time before the other one's last row: rows of several receivers, or of a clock that
// was set back, may be older than the last row.
func Index(ctx context.Context, from, to receiver.Log[receiver.Entry], before time.Duration, copied func(int)) (n int, err error) {
	type id struct {
		receiver.Key
		archived bool
	}
	last, _, err := to.Last()
	if err != nil {
		return 0, err
	}
	since, has := last.Add(-before), map[id]bool{}
	for e, err := range to.Since(since) {
		if err != nil {
			return 0, err
		}
		has[id{e.Key(), e.Archived}] = true
	}
	missing := func(e receiver.Entry) bool { return !has[id{e.Key(), e.Archived}] }
	return each(ctx, from.Since(since), missing, func(rows []receiver.Entry) error {
		if err := to.Copy(rows); err != nil {
			return err
		}
		copied(len(rows))
		return nil
	})
}

// Others copies the other logs, all documents and the contacts. What is written meanwhile may be missing.
func Others(ctx context.Context, from, to receiver.Backend, now clock.Reading) (r RowsResult, err error) {
	for _, log := range []func() (int, error){
		func() (int, error) {
			return rest(ctx, from.Rejections, to.Rejections, func(r receiver.Rejection) time.Time { return r.At })
		},
		func() (int, error) {
			return rest(ctx, from.Alerts, to.Alerts, func(a receiver.Alert) time.Time { return a.At })
		},
		func() (int, error) {
			return rest(ctx, from.Silences, to.Silences, func(s receiver.Silence) time.Time { return s.At })
		},
	} {
		n, err := log()
		r.Others += n
		if err != nil {
			return r, err
		}
	}
	if r.Documents, err = documents(from.Docs, to.Docs); err != nil {
		return r, err
	}
	return r, errors.Join(contacts.Move(from, to, now), rollout(from.Releases, to.Releases))
}

// rollout copies the progress of the releases.
func rollout(from, to receiver.Releases) error {
	b, err := from.LoadRollout()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = to.SaveRollout(b)
	}
	return err
}

// rest copies the rows of a log that another one, which has its first rows, does not have.
// Logs may keep times in microseconds.
func rest[T any](ctx context.Context, from, to receiver.Log[T], when func(T) time.Time) (int, error) {
	last, _, err := to.Last()
	if err != nil {
		return 0, err
	}
	last = last.Truncate(time.Microsecond)
	sameTime := func(row T) bool { return when(row).Truncate(time.Microsecond).Equal(last) }
	has := 0
	for row, err := range to.Since(last) {
		if err != nil {
			return 0, err
		}
		if sameTime(row) {
			has++
		}
	}
	missing := func(row T) bool {
		if has == 0 || !sameTime(row) {
			return true
		}
		has--
		return false
	}
	return each(ctx, from.Since(last), missing, to.Copy)
}

// each has the wanted ones of some rows copied in batches, and returns how many.
func each[T any](ctx context.Context, rows func(func(T, error) bool), want func(T) bool, put func([]T) error) (n int, err error) {
	var some []T
	for row, err := range rows {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return n, err
		}
		if !want(row) {
			continue
		}
		if some = append(some, row); len(some) < batch {
			continue
		}
		if err := put(some); err != nil {
			return n, err
		}
		n, some = n+len(some), some[:0]
	}
	if len(some) > 0 {
		err = put(some)
	}
	return n + len(some), err
}

// documents makes the documents of two backends equal.
func documents(from, to receiver.Docs) (n int, err error) {
	names, err := receiver.DocNames(from)
	if err != nil {
		return 0, err
	}
	there, err := receiver.DocNames(to)
	if err != nil {
		return 0, err
	}
	old := map[string]bool{}
	for _, name := range there {
		old[name] = true
	}
	for _, name := range names {
		delete(old, name)
		content, err := from.Load(name, maxDocument)
		if err != nil {
			return n, fmt.Errorf("copy %s: %w", name, err)
		}
		if has, err := to.Load(name, maxDocument); err == nil && bytes.Equal(has, content) {
			continue
		}
		if err := to.Save(name, content); err != nil {
			return n, err
		}
		n++
	}
	for name := range old {
		if err := to.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	return n, nil
}
