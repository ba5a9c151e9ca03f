package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cis490/install"
	"cis490/internal/check"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/wire"
	"cis490/receiver/pg"
)

// readInvitation reads the invitation of a further receiver from standard input, and tries what
// it names unless files are written for another machine. It changes nothing.
func (a *app) readInvitation(c *cli.Context, image bool) (*install.Invitation, error) {
	for _, flag := range []string{"public-url", "ca-cert", "ca-key"} {
		if c.IsSet(flag) {
			return nil, usagef(c, "--%s and --join are mutually exclusive: the invitation has the settings", flag)
		}
	}
	text, err := a.stdin(wire.MaxInvitation + 1)
	if err != nil {
		return nil, err
	}
	if len(text) > wire.MaxInvitation {
		return nil, usagef(c, "standard input has more than %d bytes, which no invitation has", wire.MaxInvitation)
	}
	i, err := install.ReadInvitation(text, a.env.Build.Version)
	if err == nil && !image {
		err = a.tryInvitation(c.Context, i)
	}
	return i, err
}

// tryInvitation checks that this machine reaches the database and the bucket, and that they are
// those of the receiver that invited it.
func (a *app) tryInvitation(ctx context.Context, i *install.Invitation) (err error) {
	dir, err := os.MkdirTemp("", "cis490-join") // closed to others
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.RemoveAll(disk.OS{}, dir)) }()
	conf, files := i.In(dir)
	conf.DataDir = dir
	for path, content := range files {
		if err := disk.ReplaceBytes(disk.OS{}, path, 0o600, content); err != nil {
			return err
		}
	}
	back := stored(conf, filepath.Join(dir, "receiver.toml"))
	wanted := []string{"ledger.postgres", "store.bucket", "store.same", "store.clock"}
	checks := slices.DeleteFunc(back.Checks("", 0), func(k check.Check) bool { return !slices.Contains(wanted, k.ID) })
	var bad []string
	for _, row := range check.Run(ctx, checks) {
		if row.Status == check.Fail {
			bad = append(bad, fmt.Sprintf("%s: %s", row.ID, row.Detail))
		}
	}
	if len(bad) == 0 {
		url, err := pg.ReadURL(disk.OS{}, conf.Ledger.URLFile)
		if err != nil {
			return err
		}
		s, err := pg.ReadStatus(ctx, url)
		switch {
		case err != nil:
			bad = append(bad, err.Error())
		case s.StoreID != i.StoreID:
			bad = append(bad, fmt.Sprintf("the database is of store %.40q, that of the receiver is %.40q", s.StoreID, i.StoreID))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fault.Exit(fault.Fix(fmt.Errorf("this machine cannot use what the receivers share: %s", strings.Join(bad, "; ")),
		"nothing was changed: let this machine reach "+conf.Store.S3.Endpoint+" and the database (firewall, pg_hba.conf), then run it again"),
		fault.Unavailable)
}
