package commands

import (
	"github.com/urfave/cli/v2"

	"cis490/internal/plain"
	"cis490/receiver/authority"
)

func (a *app) caCommand() *cli.Command {
	return &cli.Command{
		Name:  "ca",
		Usage: "show and rotate the fleet's certificate authority",
		Subcommands: []*cli.Command{{
			Name:        "show",
			Usage:       "show the CA, and the older ones that are still trusted",
			ArgsUsage:   noArgs,
			Description: "Example:\n   sudo cis490 ca show",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action: func(c *cli.Context) error {
				return a.ca(c, func(client *authority.Client) (authority.CAInfo, error) { return client.CA(c.Context) })
			},
		}, {
			Name:      "rotate",
			Usage:     "create a new CA; the current one is trusted for 120 more days",
			ArgsUsage: noArgs,
			Description: "Hosts get the new one at their next renewal, and accept the receiver until then,\n" +
				"because the current CA signs the new one. A host that is off for longer than these 120 days\n" +
				"must join again. At most 10 older CAs are trusted; with 10, run cis490 ca retire first.\n\n" +
				"Example:\n   sudo cis490 ca rotate",
			Flags: []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action: func(c *cli.Context) error {
				return a.ca(c, func(client *authority.Client) (authority.CAInfo, error) { return client.RotateCA(c.Context) })
			},
		}, {
			Name:      "retire",
			Usage:     "stop trusting older CAs before their 120 days are over",
			ArgsUsage: noArgs,
			Description: "Use it if the key of an older CA was stolen. A host that has not renewed since the\n" +
				"rotation must join again; a host that is on renews within 21 days.\n\n" +
				"Example:\n   sudo cis490 ca rotate   # then, when every host has renewed:\n   sudo cis490 ca retire",
			Flags: []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action: func(c *cli.Context) error {
				return a.ca(c, func(client *authority.Client) (authority.CAInfo, error) { return client.RetireCA(c.Context) })
			},
		}},
	}
}

func (a *app) ca(c *cli.Context, get func(*authority.Client) (authority.CAInfo, error)) error {
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	i, err := get(authority.NewClient(conf.Authority.Socket))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(i)
	}
	return a.table("CA\tUNTIL\tPIN", func(row func(...any)) {
		row(i.Subject, plain.Time(i.Expires), i.Pin)
		for _, o := range i.Older {
			row(o.Subject+" (older)", plain.Time(o.Until), o.Pin)
		}
	})
}
