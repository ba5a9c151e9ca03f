package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/local"
	"cis490/receiver/pg"
	"cis490/receiver/s3"
	"cis490/receiver/store"
	"cis490/receiver/storecopy"
)

// How far back a copy compares rows with the newest one: while serve runs, and at the end.
const (
	compareLive  = time.Hour
	compareFinal = 24 * time.Hour
)

// move is a copy from one config's place to another one's.
type move struct {
	a          *app
	c          *cli.Context
	conf, to   config.Receiver
	from, dest receiver.Backend
}

// rows reports whether rows and documents move, too.
func (m move) rows() bool { return m.conf.Ledger.Backend != m.to.Ledger.Backend }

// id returns the id of the store that is copied.
func (m move) id() (string, error) {
	if m.from.Rows != nil {
		id, err := m.from.Rows.ID()
		return id, pg.Explain(err)
	}
	if id := store.ID(disk.OS{}, m.conf.DataDir); id != "" {
		return id, nil
	}
	return "", fault.Fix(fmt.Errorf("%s has no store yet", m.conf.DataDir), "sudo systemctl start cis490-receiver   # makes it")
}

// importer returns where the other config keeps tarballs. A bucket is marked first.
func (m move) importer() (receiver.Importer, string, error) {
	if m.to.Store.Backend != config.StoreS3 {
		i, err := store.NewImporter(disk.OS{}, m.to.DataDir)
		return i, "", err
	}
	bucket, err := s3.Bucket(disk.OS{}, m.to.Store.S3)
	if err != nil {
		return nil, "", err
	}
	id, err := m.id()
	if err != nil {
		return nil, "", err
	}
	if err := errors.Join(s3.Mark(m.c.Context, bucket, id, time.Now()), bucket.Probe(m.c.Context, "copy")); err != nil {
		return nil, "", s3.Explain(err)
	}
	return s3.NewImporter(bucket, disk.OS{}, m.to.DataDir), bucket.Name(), nil
}

// allowed returns where the tarballs are, or an error if there is nothing to move, or if the
// other ledger has another store's rows.
func (m move) allowed(place string) (at string, err error) {
	if at, err = m.place(); err != nil {
		return at, err
	}
	if m.rows() {
		return at, m.related()
	}
	switch {
	case m.from.Rows != nil:
		err = fault.Fix(errors.New("store copy does not move tarballs while rows stay in a database"),
			"set [ledger] backend in "+m.c.String("to")+"   # or have the object store replicate the bucket")
	case at == place:
		err = fault.Fix(fmt.Errorf("the tarballs are in %s already", cmp.Or(at, m.conf.DataDir)),
			fmt.Sprintf("sudo mv %s %s && sudo systemctl restart cis490-receiver", m.c.String("to"), m.c.String("config")))
	}
	if err != nil {
		err = fault.Exit(err, fault.Config)
	}
	return at, err
}

// place returns where the tarballs are.
func (m move) place() (string, error) {
	if m.from.Rows == nil {
		return local.Place(disk.OS{}, m.conf.DataDir)
	}
	bucket, err := s3.Bucket(disk.OS{}, m.conf.Store.S3)
	if err != nil {
		return "", err
	}
	return bucket.Name(), nil
}

// lastReceiver returns an error if another receiver accepts episodes into the old place.
func (m move) lastReceiver() error {
	if m.from.Peers == nil {
		return nil
	}
	members, err := cluster.Read(m.from.Peers)
	if err != nil {
		return pg.Explain(err)
	}
	for _, x := range members {
		if x.Fresh() && x.Name != m.from.Peers.Self() {
			return fault.Exit(fault.Fix(fmt.Errorf("the receiver %s serves from the same database, or did a minute ago", x.Name),
				"sudo systemctl stop cis490-receiver   # there; a minute later, again here"), fault.TempFail)
		}
	}
	return nil
}

// archived reports whether an episode was moved out.
func (m move) archived(ctx context.Context, k receiver.Key) (bool, error) {
	if m.from.Rows != nil {
		e, found, err := m.from.Rows.Find(ctx, k)
		return found && e.Archived, err
	}
	_, found, err := store.Archived(disk.OS{}, m.conf.DataDir, k)
	return found, err
}

// related returns an error if the other ledger has the rows of another store.
func (m move) related() error {
	id, err := m.id()
	if err != nil {
		return err
	}
	if m.dest.Rows != nil {
		has, err := m.dest.Rows.ID()
		if err == nil && has != id {
			err = fault.Fix(fmt.Errorf("the database belongs to the store %s, not to %s", has, id),
				"sudo cis490 ledger migrate --config "+m.c.String("to")+" --url-file FILE   # in a new, empty database")
		}
		return pg.Explain(err)
	}
	if _, rows, err := m.dest.Index.Last(); err != nil || rows && store.ID(disk.OS{}, m.to.DataDir) != id {
		return errors.Join(err, fault.Fix(fmt.Errorf("%s has the rows of another store", m.to.DataDir),
			"ls "+m.to.DataDir+"   # move its *.jsonl files away, if they are not needed"))
	}
	return nil
}

// copyRows copies rows. With --final it also copies documents, and holds the lease of
// fleet-check meanwhile.
func (m move) copyRows() (*storecopy.RowsResult, error) {
	before := compareLive
	if m.c.Bool("final") {
		before = compareFinal
		lease, err := m.from.Lease(receiver.Checking)
		if errors.Is(err, receiver.ErrLeased) {
			err = fault.Exit(fault.Fix(err, "sudo systemctl stop cis490-fleet-health.timer cis490-fleet-health   # then again"), fault.TempFail)
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = lease.Close() }() // without the database it ends by itself
	}
	watched, all := m.a.terminal(m.a.env.Err), 0
	n, err := storecopy.Index(m.c.Context, m.from.Index, m.dest.Index, before, func(n int) {
		if all += n; watched {
			controlf(m.a.env.Err, clearLine+"%d rows copied", all)
		}
	})
	if watched {
		controlf(m.a.env.Err, clearLine)
	}
	r := storecopy.RowsResult{}
	if err == nil && m.c.Bool("final") {
		r, err = storecopy.Others(m.c.Context, m.from, m.dest, clock.Read(disk.OS{})())
	}
	r.Rows = n
	return &r, pg.Explain(err)
}

// switchOver makes the new place the store. The last write makes the switch.
func (m move) switchOver(place string) error {
	dir := m.conf.DataDir
	if m.dest.Rows != nil {
		return pg.Place(disk.OS{}, dir)
	}
	id, err := m.id()
	if err == nil {
		err = errors.Join(store.SetID(disk.OS{}, dir, id), local.SetPlace(disk.OS{}, dir, place))
	}
	if err != nil {
		return err
	}
	return local.ClearLedger(disk.OS{}, dir)
}
