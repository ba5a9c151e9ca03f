package commands

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/receiver/catalogue"
	"cis490/receiver/export"
	"cis490/receiver/local"
	"cis490/receiver/server"
)

func (a *app) exportCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "turn stored episodes into tables to train on",
		ArgsUsage: noArgs,
		Description: "Writes a folder with tables (telemetry joined with its labels, counters with their rates), a\n" +
			"manifest, a dataset card and a Croissant description. Damaged episodes are left out and listed.\n" +
			"An export that was cut off continues when the same command is run again. docs/data.md has the\n" +
			"tables and queries for them.\n\n" +
			"Examples:\n   sudo cis490 export --out /srv/may --split host --from 2026-05-01 --to 2026-06-01\n" +
			"   cis490 export --url https://collector.lab:8443 --ca ca.crt --token-file token --out may --format webdataset\n" +
			"   cis490 export --snapshot may/snapshot.jsonl --out again",
		Flags: slices.Concat([]cli.Flag{
			a.configFlag(roleReceiver), jsonFlag(),
			&cli.StringFlag{Name: "out", Usage: "write to the new folder `DIR`"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT`: parquet, csv, jsonl or webdataset", Value: string(export.Parquet)},
			&cli.StringFlag{Name: "split", Usage: "divide into train, validation and test by `HOW`: host, time or random:SEED"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the snapshot, for the dataset card"},
			&cli.StringFlag{Name: "snapshot", Usage: "export the episodes of `FILE`, the snapshot.jsonl of another export"},
			&cli.BoolFlag{Name: "verify", Usage: "also run all checks of 'episode verify'"},
			&cli.StringFlag{
				Name:  "max-unpacked",
				Usage: "leave out episodes that unpack to more than `SIZE` (default: the receiver's limits.unpacked_size; with --url, 256 MiB)",
			},
			&cli.StringFlag{Name: "url", Usage: "export from the receiver at `URL`, instead of this machine's"},
			&cli.StringFlag{Name: "token-file", Usage: "read the token for --url from `FILE`"},
			&cli.StringFlag{Name: "ca", Usage: "trust the CA certificates in `FILE` for --url (default: the system's)"},
		}, filterFlags()),
		Action: a.export,
	}
}

func (a *app) export(c *cli.Context) error {
	o, err := exportOptions(c)
	if err != nil {
		return err
	}
	if o.Source, err = a.exportSource(c, &o); err != nil {
		return err
	}
	watched := a.terminal(a.env.Err)
	o.Progress = func(done, of int) {
		if watched && (done%64 == 0 || done == of) {
			controlf(a.env.Err, clearLine+"%d of %d episodes", done, of)
		}
	}
	m, err := export.Run(c.Context, o)
	if watched {
		controlf(a.env.Err, clearLine)
	}
	if errors.Is(err, context.Canceled) {
		return fault.Fix(fmt.Errorf("the export was stopped: %w", err), "run the same command again to continue it")
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(m)
	}
	var bytes int64
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	a.printf("exported %d episodes, %d files, %s, to %s\n", m.Episodes, len(m.Files), humanize.IBytes(uint64(bytes)), o.Out)
	a.printf("snapshot %s\n", m.Snapshot)
	if m.LeftOut > 0 {
		a.printf("%d episodes were left out: %s has the reasons\n", m.LeftOut, filepath.Join(o.Out, export.LeftOutFile))
	}
	return nil
}

func exportOptions(c *cli.Context) (o export.Options, err error) {
	if o.Out = c.String("out"); o.Out == "" {
		return o, usagef(c, "missing --out DIR")
	}
	if o.Out, err = filepath.Abs(o.Out); err != nil {
		return o, err
	}
	if o.Format = export.Format(c.String("format")); !slices.Contains(export.Formats(), o.Format) {
		return o, usagef(c, "--format: want parquet, csv, jsonl or webdataset, got %.40q", o.Format)
	}
	if o.Split, err = export.ParseSplit(c.String("split")); err != nil {
		return o, usagef(c, "--split: %v", err)
	}
	o.Limits = catalogue.LimitsOf(config.DefaultReceiver().Limits)
	if c.IsSet("max-unpacked") {
		most, err := humanize.ParseBytes(c.String("max-unpacked"))
		if err != nil || most == 0 || most > episode.MaxBytes {
			return o, usagef(c, "--max-unpacked: want a size such as 256 MiB, up to 64 GiB, got %.40q", c.String("max-unpacked"))
		}
		o.Limits.Bytes = int64(most)
	}
	o.Name, o.Verify, o.Snapshot = c.String("name"), c.Bool("verify"), c.String("snapshot")
	if o.Snapshot != "" {
		if filtered(c) {
			return o, usagef(c, "--snapshot and filters are mutually exclusive")
		}
		o.Snapshot, err = filepath.Abs(o.Snapshot)
		return o, err
	}
	o.Query, err = queryOf(c)
	return o, err
}

// exportSource returns this machine's receiver, whose limits it sets, or the one at --url.
func (a *app) exportSource(c *cli.Context, o *export.Options) (export.Source, error) {
	at := c.String("url")
	if at == "" {
		if c.IsSet("token-file") || c.IsSet("ca") {
			return nil, usagef(c, "--token-file and --ca are for --url")
		}
		conf, err := a.receiver(c)
		if err != nil {
			return nil, err
		}
		if !c.IsSet("max-unpacked") {
			o.Limits = catalogue.LimitsOf(conf.Limits)
		}
		find := func(ctx context.Context, q catalogue.Query) (catalogue.Page, error) {
			return server.AskEpisodes(ctx, local.AdminSocket(conf.DataDir), q)
		}
		return export.Local{Find: find, Episodes: stored(conf, c.String("config")).Episodes}, nil
	}
	if c.String("token-file") == "" {
		return nil, usagef(c, "--url needs --token-file FILE")
	}
	token, err := disk.ReadText(disk.OS{}, c.String("token-file"), 4<<10)
	if err != nil {
		return nil, err
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS13}
	if path := c.String("ca"); path != "" {
		pem, err := disk.ReadFile(disk.OS{}, path, disk.Small)
		if err != nil {
			return nil, err
		}
		if trust.RootCAs = x509.NewCertPool(); !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef(c, "--ca: no certificates in %s", path)
		}
	}
	source, err := export.NewRemote(at, strings.TrimSpace(token), &http.Transport{TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment})
	if err != nil {
		return nil, usagef(c, "--url: %v", err)
	}
	return source, nil
}
