package commands

import (
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
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/receiver"
	"cis490/receiver/storecopy"
)

func (a *app) quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// storeCopy copies from where the config keeps tarballs and rows to where another one does.
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
	if to.DataDir != conf.DataDir {
		return fault.Exit(fault.Fix(fmt.Errorf("data_dir is %s here and %s in %s", conf.DataDir, to.DataDir, c.String("to")),
			"change [store] and [ledger] only: everything else stays in data_dir"), fault.Config)
	}
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	m := move{a: a, c: c, conf: conf, to: to, from: stored(conf, c.String("config")), dest: stored(to, c.String("to"))}
	dest, place, err := m.importer()
	if err != nil {
		return err
	}
	at, err := m.allowed(place)
	if err != nil {
		return err
	}
	alone, err := m.dest.Lease(receiver.Moving)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.Close()) }()
	if c.Bool("final") {
		if err := m.lastReceiver(); err != nil {
			return err
		}
		s, err := m.from.Serve() // settles what was cut off, and keeps serve out
		if err != nil {
			return stopFirst(err)
		}
		defer func() { err = errors.Join(err, s.Close()) }()
	}
	began := time.Now()
	var done copied
	if at != place {
		done.Result, err = m.copyTarballs(dest, place)
	}
	if err == nil && m.rows() {
		done.Ledger, err = m.copyRows()
	}
	if err == nil && c.Bool("final") {
		err = m.switchOver(place)
	}
	return errors.Join(err, a.sayCopied(c, done, time.Since(began), err == nil))
}

func (m move) copyTarballs(to receiver.Importer, place string) (storecopy.Result, error) {
	watched := m.a.terminal(m.a.env.Err)
	r, err := storecopy.Run(m.c.Context, storecopy.Options{
		From: m.from, To: to, Place: place, Archived: m.archived, Parallel: m.c.Int("parallel"),
		Copied: func(r storecopy.Result) {
			if watched {
				controlf(m.a.env.Err, clearLine+"%d copied, %s", r.Copied, humanize.IBytes(uint64(r.Bytes)))
			}
		},
	})
	if watched {
		controlf(m.a.env.Err, clearLine)
	}
	return r, err
}

// copied is the result of `store copy` as --json prints it.
type copied struct {
	storecopy.Result
	Ledger *storecopy.RowsResult `json:"ledger,omitempty"` // absent: rows stay where they are
}

func (a *app) sayCopied(c *cli.Context, r copied, took time.Duration, whole bool) error {
	if c.Bool("json") {
		return a.printJSON(r)
	}
	a.printf("copied %d tarballs, %s, in %s; %d were there already\n",
		r.Copied, humanize.IBytes(uint64(r.Bytes)), took.Round(time.Second), r.There)
	if l := r.Ledger; l != nil {
		a.printf("copied %d rows of episodes, %d other rows and %d documents\n", l.Rows, l.Others, l.Documents)
	}
	if r.Missing > 0 {
		a.printf("%d rows have no tarball here, such as %s: their hosts send them again at their daily comparison\n", r.Missing, r.Example)
	}
	switch to := c.String("to"); {
	case !whole:
	case c.Bool("final"):
		a.printf("from now on the new place is the store. Next:\nsudo mv %s %s && sudo systemctl start cis490-receiver\n", to, c.String("config"))
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
