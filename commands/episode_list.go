package commands

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/agent/spool"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
)

// episodeRow describes an episode in `episode list` and `episode show`.
type episodeRow struct {
	Episode ident.EpisodeID `json:"episode"`
	State   string          `json:"state"` // waiting, held, quarantined or shipped
	Start   time.Time       `json:"start"`
	Commit  ident.Commit    `json:"commit,omitempty"`
	Bytes   int64           `json:"bytes,omitempty"`
	Packed  bool            `json:"packed,omitempty"`
	Reason  *spool.Reason   `json:"reason,omitempty"`
	Hold    *spool.Hold     `json:"hold,omitempty"`
	Receipt *spool.Row      `json:"receipt,omitempty"`
}

func (a *app) episodeListCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list episodes of a lab host with their states, or all episodes of the receiver",
		ArgsUsage: noArgs,
		Description: "On a lab host: episodes that wait, are held by the gate or are in quarantine. --shipped adds\n" +
			"those kept after the receiver acknowledged them.\n\n" +
			"On the receiver: the newest episodes, or those that match the filters.\n\n" +
			"Examples:\n   cis490 episode list --state quarantined\n" +
			"   sudo cis490 episode list --profile hash --from 2026-05-01",
		Flags: slices.Concat(roleFlags(), []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "shipped", Usage: "lab host: also list shipped episodes"},
			&cli.StringFlag{Name: "state", Usage: "lab host: only episodes in `STATE`: waiting, held, quarantined, shipped"},
			&cli.IntFlag{Name: "limit", Usage: "receiver: list at most `N` episodes, up to 1000", Value: 100},
			&cli.BoolFlag{Name: "ndjson", Usage: "receiver: print all as JSON Lines, the oldest first"},
		}, filterFlags()),
		Action: a.episodeList,
	}
}

func (a *app) episodeList(c *cli.Context) error {
	state := c.String("state")
	if state != "" && !slices.Contains([]string{"waiting", "held", "quarantined", "shipped"}, state) {
		return usagef(c, "unknown state %q", state)
	}
	rx, ok, err := a.receiverConfig(c)
	if err != nil {
		return err
	}
	if ok {
		return a.listCatalogue(c, rx)
	}
	if filtered(c) || c.IsSet("limit") || c.IsSet("ndjson") {
		return usagef(c, "filters, --limit and --ndjson are for the receiver")
	}
	path := a.configPath(roleLabHost)
	if c.IsSet("config") {
		path = c.String("config")
	}
	conf, unknown, err := config.LoadLabHost(path)
	a.warnUnknown(unknown)
	if err != nil {
		return err
	}
	rows, err := episodeRows(conf.DataDir, c.Bool("shipped") || state == "shipped")
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r episodeRow) bool { return state != "" && r.State != state })
	if c.Bool("json") {
		return a.printJSON(rows)
	}
	return a.table("EPISODE\tSTATE\tSTART\t~COMMIT\t~SIZE\tWHY", func(row func(...any)) {
		for _, r := range rows {
			row(r.Episode, r.State, plain.Time(r.Start), fmt.Sprintf("%.12s", r.Commit), humanize.IBytes(uint64(r.Bytes)), r.why())
		}
	})
}

func (r episodeRow) why() string {
	switch {
	case r.Reason != nil:
		return check.Sanitize(r.Reason.Detail, 80)
	case r.Hold != nil:
		return check.Sanitize(r.Hold.Detail, 80)
	}
	return ""
}

func (a *app) episodeRetryCommand() *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "move quarantined episodes back to the outbox",
		ArgsUsage: "EPISODE…",
		Description: "The shipper finds them by itself. Rejected episodes return to the quarantine.\n\n" +
			"Examples:\n   sudo cis490 episode retry 01J9Z3NDEKTSV4RRFFQ69G5FAV\n   sudo cis490 episode retry --all",
		Flags:  []cli.Flag{a.configFlag(roleLabHost), &cli.BoolFlag{Name: "all", Usage: "all quarantined episodes, except conflicts"}},
		Action: a.episodeRetry,
	}
}

func (a *app) episodeRetry(c *cli.Context) error {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if c.Bool("all") == (len(args) > 0) {
		return usagef(c, "want episode ids or --all")
	}
	var want []ident.EpisodeID
	for _, arg := range args {
		id, err := ident.ParseEpisodeID(arg)
		if err != nil {
			return usagef(c, "%v", err)
		}
		want = append(want, id)
	}
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	// As the shipper's user, because others can change some of the folders.
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return err
	}
	sp := readSpool(conf.DataDir)
	aside, err := sp.Quarantined()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.Bool("all") {
		for _, id := range aside {
			if r, err := sp.ReasonOf(id); err == nil && (r.Retry || r.Kind == spool.Unpackable) {
				want = append(want, id)
			}
		}
	}
	var errs []error
	for _, id := range want {
		if !slices.Contains(aside, id) {
			errs = append(errs, fault.Fix(fmt.Errorf("episode %s is not in quarantine", id), "cis490 episode list"))
			continue
		}
		if err := sp.Release(id); err != nil {
			errs = append(errs, err)
			continue
		}
		a.printf("%s moved back to the outbox\n", id)
	}
	return errors.Join(errs...)
}

// readSpool opens a spool that the shipper may be using.
func readSpool(dir string) *spool.Spool {
	return &spool.Spool{Options: spool.Options{FS: disk.OS{}, Dir: dir, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}}
}

func episodeRows(dir string, shipped bool) ([]episodeRow, error) {
	sp := readSpool(dir)
	state, err := spool.LoadState(disk.OS{}, dir)
	if err != nil {
		return nil, err
	}
	rows := map[ident.EpisodeID]episodeRow{}
	packed, err := sp.Packed()
	found, err2 := sp.Scan(func(ident.EpisodeID) bool { return false })
	aside, err3 := sp.Quarantined()
	for _, err := range []error{err, err2, err3} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, id := range append(found.Whole, packed...) {
		it := sp.Describe(id)
		r := episodeRow{Episode: id, State: "waiting", Commit: it.Commit, Bytes: it.Bytes, Packed: slices.Contains(packed, id)}
		if h, held := state.Holds[it.Commit]; held {
			r.State, r.Hold = "held", &h
		}
		rows[id] = r
	}
	for _, id := range aside {
		r := episodeRow{Episode: id, State: "quarantined"}
		if reason, err := sp.ReasonOf(id); err == nil {
			r.Reason, r.Commit = &reason, reason.Commit
		}
		rows[id] = r
	}
	if shipped {
		all, err := sp.Shipped()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, s := range all {
			rows[s.Episode] = episodeRow{Episode: s.Episode, State: "shipped", Commit: s.Commit, Bytes: s.Size, Receipt: &s}
		}
	}
	out := make([]episodeRow, 0, len(rows))
	for id, r := range rows {
		r.Start = id.Time()
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b episodeRow) int { return strings.Compare(string(a.Episode), string(b.Episode)) })
	return out, nil
}
