package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/plain"
	"cis490/receiver/backup"
	"cis490/receiver/local"
	"cis490/receiver/storecopy"
)

// backupDir is the default folder of backups.
const backupDir = "/var/backups/cis490"

func (a *app) backupCommand() *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "save what this receiver cannot rebuild",
		ArgsUsage: noArgs,
		Description: "Saves authority, config, releases and ledgers in one file, while the daemons run. Episodes\n" +
			"and their index are not in it: after a restore the hosts send them again. The file holds\n" +
			"the CA key: keep it on another machine, where few can read it.\n\n" +
			"Examples:\n   sudo cis490 backup\n   sudo cis490 backup --to /mnt/safe/receiver.tar.gz",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.StringFlag{Name: "to", Usage: "write `FILE` (default: a new one in " + backupDir + ")"},
		},
		Action: a.backup,
	}
}

func (a *app) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "restore a backup on this or a new machine",
		ArgsUsage: noArgs,
		Description: "On a new machine, install the receiver first, then stop its services, restore, and start\n" +
			"them. The store gets a new id: every host compares what it shipped and sends again what\nis missing. Nobody has to touch a host.\n\n" +
			"Example:\n   " + backup.StopCommand + "\n   sudo cis490 restore --from receiver.tar.gz\n   " + backup.StartCommand + "\n\n" +
			"With --ca-key a machine gets the CA key and nothing else, to stand by: docs/growing.md.",
		Flags: []cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.StringFlag{Name: "from", Usage: "the backup's `FILE`"},
			&cli.BoolFlag{Name: "ca-key", Usage: "only the CA key"},
		},
		Action: a.restore,
	}
}

// backedUp is the result as --json prints it.
type backedUp struct {
	File string `json:"file"`
	backup.Head
}

func places(c *cli.Context, conf config.Receiver) backup.Places {
	return backup.Places{Config: c.String("config"), Operator: conf.Operator, Data: conf.DataDir, Authority: conf.Authority.Dir}
}

func (a *app) backup(c *cli.Context) (err error) {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	p := places(c, conf)
	now := time.Now()
	file := c.String("to")
	if file != "" {
		// Its path is recorded, and read from other folders than this one.
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		for _, dir := range []string{p.Data, p.Authority} {
			// The folder's user could give the backup a name whose owner doctor --fix corrects,
			// and then read it.
			real, err1 := disk.OS{}.Real(dir)
			target, err2 := disk.OS{}.Real(filepath.Dir(file))
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("find where the backup goes: %w", err)
			}
			if rel, err := filepath.Rel(real, target); err == nil && filepath.IsLocal(rel) {
				return fault.Fix(fmt.Errorf("%s lies in %s, which a service's user can change", file, dir),
					"--to /root/receiver.tar.gz   # it holds the CA key")
			}
		}
		if fi, err := disk.Stat(disk.OS{}, file); err == nil && !fi.Mode().IsRegular() {
			return fault.Fix(fmt.Errorf("%s is not a regular file", file), "name the file: --to "+filepath.Join(file, "receiver.tar.gz"))
		}
	} else {
		if err := disk.MkdirAll(disk.OS{}, backupDir, 0o700); err != nil {
			return err
		}
		file = filepath.Join(backupDir, "receiver-"+now.UTC().Format("20060102T150405Z")+".tar.gz")
	}
	back := stored(conf, c.String("config"))
	var left error
	if back.Rows != nil {
		if p.Ledger, err = os.MkdirTemp("", "cis490-backup"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, disk.RemoveAll(disk.OS{}, p.Ledger)) }()
		_, left = storecopy.Others(c.Context, back, local.Open(local.Options{FS: disk.OS{}, Dir: p.Ledger}), clock.Read(disk.OS{})())
	}
	var h backup.Head
	err = disk.Replace(disk.OS{}, file, 0o600, func(w io.Writer) error {
		h, err = backup.Save(w, p, a.env.Build.Version, now)
		return err
	})
	if err != nil {
		return err
	}
	if left != nil { // the CA's key is saved in any case
		h.LeftOut = append(h.LeftOut, fmt.Sprintf("what the database has: %v", left))
	} else if err := backup.Remember(back.Docs, backup.Note{At: h.At, File: file}); err != nil {
		return err
	}
	for _, path := range h.LeftOut {
		a.errorf("warning: not in the backup: %s", path)
	}
	if c.Bool("json") {
		return a.printJSON(backedUp{file, h})
	}
	a.printf("saved %d files to %s; it holds the CA key: move it to another machine\n", h.Files, file)
	return nil
}

func (a *app) restore(c *cli.Context) error {
	file := c.String("from")
	if file == "" {
		return usagef(c, "say which backup: --from FILE")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if c.Bool("ca-key") {
		h, err := backup.RestoreKey(file, places(c, conf))
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return a.printJSON(backedUp{file, h})
		}
		a.printf("restored the CA key of %s; now: sudo systemctl start cis490-bootstrap\n", plain.Time(h.At))
		return nil
	}
	h, err := backup.Restore(file, places(c, conf))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(backedUp{file, h})
	}
	before := ""
	conf, err = a.receiver(c) // the config that was restored
	switch {
	case err != nil, conf.Store.Backend != config.StoreS3:
	case conf.Ledger.Backend == config.LedgerFiles:
		before = "sudo cis490 store init --take-over && "
	default:
		before = "if the database is lost, sudo cis490 ledger load --help; then "
	}
	a.printf("restored %d files of %s; now: %s%s\n", h.Files, plain.Time(h.At), before, backup.StartCommand)
	return nil
}
