package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cis490/receiver"
)

// silentAfter is how long a test of the database may take before uploads stop waiting for it. A
// host that has an answer can go to another receiver.
const silentAfter = 2 * time.Second

var errSilent = fmt.Errorf("%w: the database does not answer", receiver.ErrUnavailable)

// tested is usable. While it gets no answer the database is silent, until a test succeeds.
func (d *db) tested() error {
	result := make(chan error, 1)
	go func() { result <- d.usable() }()
	timer := time.NewTimer(silentAfter)
	defer timer.Stop()
	var err error
	select {
	case err = <-result:
	case <-timer.C:
		d.silence()
		err = <-result
	}
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.up.Err() != nil {
			d.up, d.down = context.WithCancelCause(context.Background())
		}
	}
	return err
}

// silence ends the statements of uploads, because the database does not answer.
func (d *db) silence() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down(errSilent)
}

// upload is do for the statements of an upload: it returns errSilent at once while the database
// is silent. The outcome of a statement that had begun is not known.
func (d *db) upload(ctx context.Context, call func(context.Context, conn) error) error {
	d.mu.Lock()
	up := d.up
	d.mu.Unlock()
	if up.Err() != nil {
		return errSilent
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(up, func() { cancel(errSilent) })()
	err := d.do(ctx, call)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}
