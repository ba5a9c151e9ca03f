package commands

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/internal/wire"
	"cis490/receiver/archive"
	"cis490/receiver/local"
	"cis490/receiver/server"
)

func (a *app) archiveCommand() *cli.Command {
	return &cli.Command{
		Name:      "archive",
		Usage:     "move old tarballs from the receiver's disk to another folder",
		ArgsUsage: noArgs,
		Description: "Copies each tarball that was stored before DATE to DIR/HOST/EPISODE.tar.zst, and compares\n" +
			"the copy. Then serve, which must be running, records the move and removes its own copy. Hosts are\n" +
			"not affected: an archived episode counts as stored. After an interruption, run the command again.\n\n" +
			"Examples:\n   sudo cis490 archive --before 2026-01-01 --to /mnt/archive --dry-run\n   sudo cis490 archive --before " +
			"2026-01-01 --to /mnt/archive",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.StringFlag{Name: "before", Usage: "move tarballs stored before `DATE`: 2026-01-01 (UTC), or 2026-01-01T12:00:00Z"},
			&cli.StringFlag{Name: "to", Usage: "copy to the existing folder `DIR`"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only count"},
		},
		Action: a.archive,
	}
}

func (a *app) archive(c *cli.Context) error {
	if c.String("to") == "" {
		return usagef(c, "say where to: --to DIR")
	}
	before, err := plain.ParseTime(c.String("before"))
	if err != nil {
		return usagef(c, "--before: %w", err)
	}
	to, err := filepath.Abs(c.String("to"))
	if err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if err := archive.Check(conf.DataDir, to); err != nil {
		return err
	}
	if settled := time.Now().Add(-time.Minute); before.After(settled) {
		before = settled // younger tarballs may still be written
	}
	watched := a.terminal(a.env.Err)
	done, err := archive.Run(c.Context, archive.Options{
		FS: disk.OS{}, Backend: stored(conf, c.String("config")), To: to, Before: before, Limit: int64(conf.Limits.EpisodeSize),
		DryRun: c.Bool("dry-run"),
		Archive: func(ctx context.Context, h ident.Host, pairs []wire.Pair) ([]ident.EpisodeID, error) {
			return server.AskArchive(ctx, local.AdminSocket(conf.DataDir), h, pairs)
		},
		Moved: func(r archive.Result) {
			if watched {
				controlf(a.env.Err, clearLine+"%d moved, %s", r.Episodes, humanize.IBytes(uint64(r.Bytes)))
			}
		},
	})
	if watched {
		controlf(a.env.Err, clearLine)
	}
	a.sayArchived(c, done, to)
	if err == nil && len(done.Left) > 0 {
		err = fault.Fix(
			fmt.Errorf("%d episodes stay where they are, such as %s", len(done.Left), done.Left[0]), "look at both files; nothing is overwritten",
		)
	}
	return err
}

func (a *app) sayArchived(c *cli.Context, done archive.Result, to string) {
	verb := "moved"
	if c.Bool("dry-run") {
		verb = "would move"
	}
	if c.Bool("json") {
		_ = a.printJSON(done) // the error of the run is reported
		return
	}
	a.printf("%s %d episodes, %s, to %s\n", verb, done.Episodes, humanize.IBytes(uint64(done.Bytes)), to)
}
