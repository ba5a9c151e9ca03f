package commands

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/plain"
	"cis490/receiver/catalogue"
	"cis490/receiver/local"
	"cis490/receiver/server"
)

// filterFlags select episodes of the receiver's catalogue.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Usage: "only episodes of `HOST`"},
		&cli.StringFlag{Name: "profile", Usage: "only episodes of `PROFILE`"},
		&cli.StringFlag{Name: "class", Usage: "only episodes of `CLASS`, such as benign"},
		&cli.StringFlag{Name: "verdict", Usage: "only episodes with `VERDICT`: accepted or failed"},
		&cli.StringFlag{Name: "commit", Usage: "only episodes recorded by `COMMIT` (40 digits)"},
		&cli.StringFlag{Name: "sha256", Usage: "only the episode with this `DIGEST` (64 digits)"},
		&cli.StringFlag{Name: "from", Usage: "only episodes that began at `TIME` or later: 2026-05-01, or RFC 3339"},
		&cli.StringFlag{Name: "to", Usage: "only episodes that began before `TIME`"},
	}
}

// filtered reports whether a filter flag is set.
func filtered(c *cli.Context) bool {
	for _, f := range filterFlags() {
		if c.IsSet(f.Names()[0]) {
			return true
		}
	}
	return false
}

// queryOf reads the filter flags.
func queryOf(c *cli.Context) (catalogue.Query, error) {
	v := url.Values{}
	for _, f := range filterFlags() {
		if name := f.Names()[0]; c.IsSet(name) {
			v.Set(name, c.String(name))
		}
	}
	q, err := catalogue.ParseQuery(v)
	if err != nil {
		return q, usagef(c, "--%v", err)
	}
	return q, nil
}

// receiverConfig returns the config of the receiver that a command is about, and whether it
// is about one: by --role, --config, or this machine's roles, a lab host before a receiver
// unless a filter is set.
func (a *app) receiverConfig(c *cli.Context) (conf config.Receiver, ok bool, err error) {
	at, err := a.roles(c)
	if err != nil {
		return conf, false, err
	}
	for _, p := range at {
		if p.role == roleReceiver && (len(at) == 1 || filtered(c)) {
			conf, _, err = config.LoadReceiver(p.path)
			return conf, true, err
		}
	}
	return conf, false, nil
}

// findEpisodes answers a query: serve does, or without it the file that serve left.
func findEpisodes(ctx context.Context, conf config.Receiver, q catalogue.Query) (catalogue.Page, error) {
	p, err := server.AskEpisodes(ctx, local.AdminSocket(conf.DataDir), q)
	if err == nil || fault.CodeOf(err) != fault.Unavailable {
		return p, err
	}
	// As its owner, because another user could have put something else in its place.
	if err := becomeOwner(conf.DataDir, roleReceiver); err != nil {
		return p, err
	}
	c, openErr := catalogue.Read(local.CataloguePath(conf.DataDir))
	if errors.Is(openErr, fs.ErrNotExist) {
		return p, err
	}
	if openErr != nil {
		return p, openErr
	}
	p, err = c.Find(q)
	return p, errors.Join(err, c.Close())
}

// listCatalogue lists the receiver's episodes, the newest first.
func (a *app) listCatalogue(c *cli.Context, conf config.Receiver) error {
	if c.IsSet("shipped") || c.IsSet("state") {
		return usagef(c, "--shipped and --state are for lab hosts: add --role lab-host")
	}
	q, err := queryOf(c)
	if err != nil {
		return err
	}
	q.Newest, q.Limit = true, c.Int("limit")
	if q.Limit < 0 || q.Limit > catalogue.MaxLimit || c.Bool("ndjson") && c.IsSet("limit") {
		return usagef(c, "--limit: want 1 to %d, and not beside --ndjson", catalogue.MaxLimit)
	}
	if c.Bool("ndjson") {
		q.Newest, q.Limit = false, 0
		return a.streamCatalogue(c.Context, conf, q)
	}
	p, err := findEpisodes(c.Context, conf, q)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(p)
	}
	err = a.table("EPISODE\tHOST\tPROFILE\tCLASS\tVERDICT\tSTART\t~DURATION\t~ROWS\t~SIZE", func(row func(...any)) {
		for _, r := range p.Rows {
			if r.State != catalogue.OK {
				row(r.Episode, r.Host, string(r.State)+": "+check.Sanitize(r.Problem, 100))
				continue
			}
			rows := 0
			for _, n := range r.Rows {
				rows += n
			}
			row(r.Episode, r.Host, check.Sanitize(r.Profile, 40), check.Sanitize(r.Class, 20), r.Verdict, plain.Time(r.Start),
				r.End.Sub(r.Start).Round(100*time.Millisecond), rows, humanize.IBytes(uint64(r.Size)))
		}
	})
	if err != nil {
		return err
	}
	switch {
	case len(p.Rows) == 0 && p.Next == "":
		a.errorf("no episodes match")
	case p.Next != "":
		a.errorf("the newest %d; --ndjson lists all", len(p.Rows))
	}
	return nil
}

// streamCatalogue prints all rows as JSON Lines, the oldest first.
func (a *app) streamCatalogue(ctx context.Context, conf config.Receiver, q catalogue.Query) error {
	enc := json.NewEncoder(a.env.Out)
	for {
		p, err := findEpisodes(ctx, conf, q)
		if err != nil {
			return err
		}
		for _, r := range p.Rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		if q.Cursor = p.Next; q.Cursor == "" {
			return nil
		}
	}
}

func (a *app) episodeCatalogueCommand() *cli.Command {
	return &cli.Command{
		Name:      "catalogue",
		Usage:     "show the state of the receiver's catalogue, or rebuild it",
		ArgsUsage: noArgs,
		Description: "The catalogue is derived from the index and the tarballs. serve keeps it up to date in the\n" +
			"background; --rebuild rebuilds it from nothing, while uploads continue.\n\n" +
			"Examples:\n   sudo cis490 episode catalogue\n   sudo cis490 episode catalogue --rebuild",
		Flags:  []cli.Flag{a.configFlag(roleReceiver), jsonFlag(), &cli.BoolFlag{Name: "rebuild", Usage: "rebuild it"}},
		Action: a.episodeCatalogue,
	}
}

func (a *app) episodeCatalogue(c *cli.Context) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	socket := local.AdminSocket(conf.DataDir)
	if c.Bool("rebuild") {
		if err := server.AskRebuild(c.Context, socket); err != nil {
			return err
		}
		a.printf("serve rebuilds the catalogue; 'cis490 episode catalogue' shows its progress\n")
		return nil
	}
	state, err := server.AskCatalogue(c.Context, socket)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(state)
	}
	a.printf("%s episodes, ", strconv.Itoa(state.Episodes))
	switch {
	case state.Reached.Before(state.Last):
		a.printf("reading the index: at %s of %s\n", plain.Time(state.Reached), plain.Time(state.Last))
	default:
		a.printf("up to date\n")
	}
	return nil
}
