package commands

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/s3"
	"cis490/receiver/store"
	"cis490/receiver/storecopy"
)

func (a *app) quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// storeCopy copies from where the config keeps tarballs to where another one does.
func (a *app) storeCopy(c *cli.Context) (err error) {
	if c.String("to") == "" || c.Int("parallel") < 1 {
		return usagef(c, "say where to: --to FILE, and --parallel with 1 or more")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	to, unknown, err := config.LoadReceiver(c.String("to"))
	if err != nil || len(unknown) > 0 {
		return a.checked(c.String("to"), unknown, err)
	}
	if conf.Ledger.Backend != config.LedgerFiles || to.Ledger.Backend != config.LedgerFiles {
		return fault.Exit(fault.Fix(errors.New("store copy works for rows in files only"),
			`set [ledger] backend = "files" in both configs   # rows cannot be moved to or from a database yet`), fault.Config)
	}
	if to.DataDir != conf.DataDir {
		return fault.Exit(fault.Fix(fmt.Errorf("data_dir is %s here and %s in %s", conf.DataDir, to.DataDir, c.String("to")),
			"change [store] only: everything but tarballs stays in data_dir"), fault.Config)
	}
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	from := stored(conf, c.String("config"))
	dest, place, err := importer(c.Context, to)
	if err != nil {
		return err
	}
	switch at, err := local.Place(disk.OS{}, conf.DataDir); {
	case err != nil:
		return err
	case at == place:
		return fault.Exit(fault.Fix(fmt.Errorf("the tarballs are in %s already", cmp.Or(at, conf.DataDir)),
			fmt.Sprintf("sudo mv %s %s && sudo systemctl restart cis490-receiver", c.String("to"), c.String("config"))), fault.Config)
	}
	if c.Bool("final") {
		s, err := from.Serve() // settles what was cut off, and keeps serve out
		if err != nil {
			return stopFirst(err)
		}
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	watched := a.terminal(a.env.Err)
	began := time.Now()
	done, err := storecopy.Run(c.Context, storecopy.Options{
		From: from, To: dest, Place: place, Parallel: c.Int("parallel"),
		Copied: func(r storecopy.Result) {
			if watched {
				controlf(a.env.Err, clearLine+"%d copied, %s", r.Copied, humanize.IBytes(uint64(r.Bytes)))
			}
		},
	})
	if watched {
		controlf(a.env.Err, clearLine)
	}
	if err == nil && c.Bool("final") {
		err = local.SetPlace(disk.OS{}, conf.DataDir, place)
	}
	return errors.Join(err, a.sayCopied(c, done, time.Since(began), err == nil))
}

// importer returns where a config keeps tarballs. A bucket is marked first.
func importer(ctx context.Context, conf config.Receiver) (receiver.Importer, string, error) {
	if conf.Store.Backend != config.StoreS3 {
		i, err := store.NewImporter(disk.OS{}, conf.DataDir)
		return i, "", err
	}
	bucket, err := s3.Bucket(disk.OS{}, conf.Store.S3)
	if err != nil {
		return nil, "", err
	}
	id := store.ID(disk.OS{}, conf.DataDir)
	if id == "" {
		return nil, "", fault.Fix(fmt.Errorf("%s has no store yet", conf.DataDir), "sudo systemctl start cis490-receiver   # makes it")
	}
	if err := errors.Join(s3.Mark(ctx, bucket, id, time.Now()), bucket.Probe(ctx, "copy")); err != nil {
		return nil, "", s3.Explain(err)
	}
	return s3.NewImporter(bucket, disk.OS{}, conf.DataDir), bucket.Name(), nil
}

func (a *app) sayCopied(c *cli.Context, r storecopy.Result, took time.Duration, whole bool) error {
	if c.Bool("json") {
		return a.printJSON(r)
	}
	a.printf("copied %d tarballs, %s, in %s; %d were there already\n",
		r.Copied, humanize.IBytes(uint64(r.Bytes)), took.Round(time.Second), r.There)
	if r.Missing > 0 {
		a.printf("%d rows have no tarball here, such as %s: their hosts send them again at their daily comparison\n", r.Missing, r.Example)
	}
	switch to := c.String("to"); {
	case !whole:
	case c.Bool("final"):
		a.printf("from now on the tarballs are there. Next:\nsudo mv %s %s && sudo systemctl start cis490-receiver\n", to, c.String("config"))
	default:
		a.printf("serve goes on here. Next: the same again, or with serve stopped:\nsudo cis490 store copy --to %s --final\n", to)
	}
	return nil
}

// hashAtOnce is how many tarballs are read at the same time.
const hashAtOnce = 8

// hashAll reads the tarball of each row, and returns how many have another content.
func (a *app) hashAll(ctx context.Context, b receiver.Backend, example *string) (wrong int, err error) {
	watched := a.terminal(a.env.Err)
	defer func() {
		if watched {
			controlf(a.env.Err, clearLine)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(hashAtOnce)
	var mu sync.Mutex
	n := 0
	for row, err := range b.Index.Since(time.Time{}) {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return wrong, errors.Join(g.Wait(), err)
		}
		if row.Archived {
			continue
		}
		g.Go(func() error {
			d, err := hashOf(b, row)
			if errors.Is(err, fs.ErrNotExist) { // archived since, or counted as lost
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s/%s: %w", row.Host, row.Episode, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if d != row.Digest {
				if wrong++; *example == "" {
					*example = fmt.Sprintf("%s/%s", row.Host, row.Episode)
				}
			}
			if n++; watched {
				controlf(a.env.Err, clearLine+"%d read", n)
			}
			return nil
		})
	}
	return wrong, g.Wait()
}

func hashOf(b receiver.Backend, row receiver.Entry) (ident.Digest, error) {
	t, err := b.Episodes.OpenRow(row)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, t)
	return ident.Digest(hex.EncodeToString(sum.Sum(nil))), errors.Join(err, t.Close())
}
