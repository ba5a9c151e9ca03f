package commands

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"cis490/agent/client"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

func (a *app) reconcileCommand() *cli.Command {
	return &cli.Command{
		Name:      "reconcile",
		Usage:     "compare this host's shipped episodes with the receiver's store",
		ArgsUsage: noArgs,
		Description: "Asks the receiver about every episode in shipped/. Exit code 1 if one is missing.\n" +
			"The shipper does this daily and sends missing episodes again; --repair does so now,\n" +
			"while the shipper is stopped.\n\n" +
			"Examples:\n   sudo cis490 reconcile\n   sudo -u cis490 cis490 reconcile --repair",
		Flags: []cli.Flag{
			a.configFlag(roleLabHost), jsonFlag(),
			&cli.BoolFlag{Name: "repair", Usage: "move missing episodes back to the outbox"},
		},
		Action: a.reconcile,
	}
}

// reconciled is the output of --json.
type reconciled struct {
	StoreID string            `json:"store_id"`
	Shipped int               `json:"shipped"`
	Stored  int               `json:"stored"`
	Missing []ident.EpisodeID `json:"missing"`
}

func (a *app) reconcile(c *cli.Context) error {
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	cl, err := client.New(conf, a.env.Build)
	if err != nil {
		return err
	}
	defer cl.Close()
	rows, err := readSpool(conf.DataDir).Shipped()
	if err != nil {
		return err
	}
	out := reconciled{Shipped: len(rows), Missing: []ident.EpisodeID{}}
	var missing []spool.Row
	for part := range slices.Chunk(rows, wire.MaxPairs) {
		pairs := make([]wire.Pair, len(part))
		for i, r := range part {
			pairs[i] = wire.Pair{Episode: r.Episode, Digest: r.Digest}
		}
		answer, err := cl.Reconcile(c.Context, pairs)
		if err != nil {
			return ship.Unreachable(fmt.Errorf("reconcile with %s: %w", conf.Receiver.URL, err))
		}
		out.StoreID = answer.StoreID
		for _, r := range part {
			if slices.Contains(answer.Stored, r.Episode) {
				out.Stored++
				continue
			}
			missing = append(missing, r)
			out.Missing = append(out.Missing, r.Episode)
		}
	}
	if c.Bool("repair") && len(missing) > 0 {
		if err := a.putBack(c, conf, missing, out.StoreID); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		err = a.printJSON(out)
	} else {
		a.printReconciled(c, out)
	}
	if err == nil && len(missing) > 0 && !c.Bool("repair") {
		err = fault.Fix(verdict(), "nothing: the shipper sends them again at its daily comparison; to do it now:\n"+
			"sudo systemctl stop cis490-shipper && sudo -u cis490 cis490 reconcile --repair; sudo systemctl start cis490-shipper")
	}
	return err
}

func (a *app) printReconciled(c *cli.Context, r reconciled) {
	if len(r.Missing) == 0 {
		a.printf("the receiver has all %d shipped episodes\n", r.Shipped)
		return
	}
	for _, id := range r.Missing {
		a.printf("missing %s\n", id)
	}
	done := ""
	if c.Bool("repair") {
		done = "; moved them back to the outbox"
	}
	a.printf("the receiver lacks %d of %d episodes%s\n", len(r.Missing), r.Shipped, done)
}

// putBack moves missing episodes back to the outbox, while the shipper is stopped.
func (a *app) putBack(c *cli.Context, conf config.LabHost, missing []spool.Row, storeID string) (err error) {
	log, err := a.log(c)
	if err != nil {
		return err
	}
	sp, closeSpool, err := openSpool(conf.DataDir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSpool()) }()
	for _, r := range missing {
		if err := sp.PutBack(r, storeID); err != nil {
			return err
		}
	}
	return nil
}
