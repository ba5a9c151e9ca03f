package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/objects"
	"cis490/receiver/pg"
	"cis490/receiver/s3"
	"cis490/receiver/server"
	"cis490/receiver/store"
)

func (a *app) storeCommand() *cli.Command {
	return &cli.Command{
		Name:        "store",
		Usage:       "move tarballs and rows between the disk, an object store and a database",
		Description: "See docs/growing.md for the steps in both directions.",
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "mark the config's bucket as this receiver's", ArgsUsage: noArgs,
				Description: "Writes cis490-store.json with the store's id into the bucket. Use it for a new receiver,\n" +
					"and with --take-over after cis490 restore. To move episodes from the disk, use cis490 store copy.\n\n" +
					"Example:\n   sudo cis490 store init",
				Flags: []cli.Flag{
					a.configFlag(roleReceiver), &cli.BoolFlag{Name: "take-over", Usage: "mark it even if it belongs to a store that no longer exists"},
				},
				Action: a.storeInit,
			},
			{
				Name: "copy", Usage: "copy all tarballs and rows to the place that another config names", ArgsUsage: noArgs,
				Description: "FILE is a copy of receiver.toml with another [store] or [ledger]. Tarballs are copied if the\n" +
					"first differs, rows and documents if the second does. Without --final, serve may run: repeat\n" +
					"the command until it copies little. With --final, serve must be stopped: the rest is copied, and\n" +
					"from then on this receiver uses only the place that FILE names. Nothing is removed at the old\n" +
					"place.\n" +
					"After an interruption, run the command again.\n\n" +
					"Examples:\n   sudo cis490 store copy --to /etc/cis490/receiver.new.toml\n" +
					"   sudo cis490 store copy --to /etc/cis490/receiver.new.toml --final",
				Flags: []cli.Flag{
					a.configFlag(roleReceiver), jsonFlag(),
					&cli.StringFlag{Name: "to", Usage: "copy to the place that `FILE` names"},
					&cli.BoolFlag{Name: "final", Usage: "copy the rest and switch over"},
					&cli.IntFlag{Name: "parallel", Value: 8, Usage: "copy `N` tarballs at the same time"},
				},
				Action: a.storeCopy,
			},
			{
				Name: "verify", Usage: "compare all rows of the index with the tarballs", ArgsUsage: noArgs,
				Description: "Looks for each row's tarball where the config keeps it, and for tarballs without a row. --deep\n" +
					"reads every tarball and compares its digest.\n\n" +
					"Example:\n   sudo cis490 store verify --deep",
				Flags: []cli.Flag{
					a.configFlag(roleReceiver), jsonFlag(), &cli.BoolFlag{Name: "deep", Usage: "read every tarball"},
				},
				Action: a.storeVerify,
			},
			{
				Name: "scrub", Usage: "have serve repair rows and remove leftovers now", ArgsUsage: noArgs,
				Description: "serve, which must be running, runs its daily comparison now: it compares all rows with all\n" +
					"tarballs, and adds missing rows. In an object store it also removes leftovers that are a day old:\n" +
					"unfinished multipart uploads and, unless the rows are in a database, superseded objects.\n\n" +
					"Example:\n   sudo cis490 store scrub",
				Flags:  []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
				Action: a.storeScrub,
			},
		},
	}
}

// storeInit marks the bucket and records that it has the tarballs.
func (a *app) storeInit(c *cli.Context) (err error) {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if conf.Store.Backend != config.StoreS3 {
		return fault.Exit(fault.Fix(errors.New("the config keeps tarballs in data_dir, which needs no init"),
			`set [store] backend = "s3" first`), fault.Config)
	}
	bucket, err := s3.Bucket(disk.OS{}, conf.Store.S3)
	if err != nil {
		return err
	}
	if conf.Ledger.Backend == config.LedgerPostgres {
		return a.storeInitShared(c, conf, bucket)
	}
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	at, err := local.Place(disk.OS{}, conf.DataDir)
	if err != nil {
		return err
	}
	held := localAt(a, conf, c.String("config"), at)
	if err := free(c.Context, held, at, bucket.Name()); err != nil {
		return err
	}
	s, err := held.Serve()
	if err != nil {
		return stopFirst(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := markBucket(c, bucket, s.ID()); err != nil {
		return err
	}
	if err := local.SetPlace(disk.OS{}, conf.DataDir, bucket.Name()); err != nil {
		return err
	}
	a.sayMarked(bucket, s.ID())
	return nil
}

// storeInitShared marks the bucket as that of the store in the config's database.
func (a *app) storeInitShared(c *cli.Context, conf config.Receiver, bucket *objects.Bucket) error {
	id, err := stored(conf, c.String("config")).Rows.ID()
	if err != nil {
		return pg.Explain(err)
	}
	if err := markBucket(c, bucket, id); err != nil {
		return err
	}
	a.sayMarked(bucket, id)
	return nil
}

func markBucket(c *cli.Context, bucket *objects.Bucket, id string) error {
	mark := s3.Mark
	if c.Bool("take-over") {
		mark = s3.TakeOver
	}
	if err := mark(c.Context, bucket, id, time.Now()); err != nil {
		return s3.Explain(err)
	}
	return s3.Explain(bucket.Probe(c.Context, "init"))
}

func (a *app) sayMarked(bucket *objects.Bucket, id string) {
	a.printf("%s is the store %s\n", bucket.Name(), id)
	if !bucket.ChecksDigests() {
		a.printf("it does not compare bodies with their digest, so every object will be read back\n")
	}
}

// localAt returns the data folder's backend whose tarballs are at a place.
func localAt(a *app, conf config.Receiver, path, at string) receiver.Backend {
	return local.Open(local.Options{
		FS: disk.OS{}, Dir: conf.DataDir, Known: store.KnownDir(path), Place: at, Now: time.Now, Log: a.quiet(),
	})
}

// free returns an error if a store's tarballs are elsewhere than in a bucket.
func free(ctx context.Context, b receiver.Backend, at, bucket string) error {
	fix := "sudo cis490 store copy --help   # moves them"
	without, _, _ := strings.Cut(bucket, " at ")
	if before, _, _ := strings.Cut(at, " at "); before == without { // perhaps at an endpoint of another name
		return nil
	}
	if at != "" {
		return fault.Fix(fmt.Errorf("the tarballs are in %s", at), fix)
	}
	for x, err := range b.Episodes.List(ctx) {
		if err == nil {
			return fault.Fix(fmt.Errorf("there are tarballs in %s, such as %s/%s", b.Name, x.Host, x.Episode), fix)
		}
		break // no folder yet
	}
	return nil
}

// stopFirst adds the fix to the error of a store that serve has.
func stopFirst(err error) error {
	if errors.Is(err, receiver.ErrLeased) {
		return fault.Exit(fault.Fix(err, "sudo systemctl stop cis490-receiver   # then again"), fault.TempFail)
	}
	return err
}

func (a *app) storeVerify(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	back := stored(conf, c.String("config"))
	found, err := back.Episodes.Check(c.Context, 0, time.Now())
	if err != nil {
		return err
	}
	out := storeVerified{found.Rows, found.Lost, 0, found.Example}
	if c.Bool("deep") {
		if out.Wrong, err = a.hashAll(c.Context, back, &out.Example); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		err = a.printJSON(out)
	} else {
		a.printf("%s: %d rows compared, %d without their tarball, %d with another content\n", back.Name, out.Rows, out.Lost, out.Wrong)
	}
	if err == nil && out.Lost+out.Wrong > 0 {
		err = fault.Fix(fmt.Errorf("%d tarballs are not as their rows say, such as %s", out.Lost+out.Wrong, out.Example),
			"nothing, if the hosts still have them: they send again what they miss at their daily comparison")
	}
	return err
}

func (a *app) storeScrub(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	found, err := server.AskCompare(c.Context, local.AdminSocket(conf.DataDir))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(found)
	}
	a.printf("%s rows and %s tarballs compared, %d rows added, %d tarballs are missing\n",
		humanize.Comma(int64(found.Rows)), humanize.Comma(int64(found.Files)), found.Repaired, found.NoFile)
	return nil
}

// storeVerified is the result of `store verify` as --json prints it.
type storeVerified struct {
	Rows    int    `json:"rows"`
	Lost    int    `json:"lost"`  // rows without their tarball
	Wrong   int    `json:"wrong"` // tarballs with another content
	Example string `json:"example,omitempty"`
}
