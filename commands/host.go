package commands

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/plain"
	"cis490/receiver"
	"cis490/receiver/authority"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

func (a *app) hostCommand() *cli.Command {
	return &cli.Command{
		Name:  "host",
		Usage: "list and change the hosts of the fleet",
		Subcommands: append([]*cli.Command{{
			Name:      "list",
			Usage:     "list hosts and their open alerts",
			ArgsUsage: noArgs,
			Description: "With --watch it is a live view with failing hosts first, until it is stopped.\n\nExamples:\n   sudo cis490 host " +
				"list\n   sudo cis490 host list --watch",
			Flags: []cli.Flag{
				a.configFlag(roleReceiver), jsonFlag(),
				&cli.BoolFlag{Name: "watch", Usage: "update the list when it changes"},
			},
			Action: a.hostList,
		}, {
			Name:        "show",
			Usage:       "explain one host: identity, state, and what will happen next",
			ArgsUsage:   "HOST",
			Description: "Example:\n   sudo cis490 host show lab-07",
			Flags:       []cli.Flag{a.configFlag(roleReceiver), jsonFlag()},
			Action:      a.hostShow,
		}, {
			Name:      "decommission",
			Usage:     "revoke hosts: their next request is rejected",
			ArgsUsage: "HOST…",
			Description: "Revokes their certificates and tokens, and ends alerts about their silence.\n" +
				"Their episodes stay. On a terminal it asks for confirmation.\n\n" +
				"Examples:\n   sudo cis490 host decommission lab-07\n   sudo cis490 host decommission lab-07 lab-08 --yes",
			Flags: []cli.Flag{a.configFlag(roleReceiver), yesFlag()},
			Action: func(c *cli.Context) error {
				hosts, err := hostArgs(c)
				if err != nil {
					return err
				}
				if err := a.confirm(c, fmt.Sprintf("Decommission %s? The receiver rejects every request from then on.", joinHosts(hosts))); err != nil {
					return err
				}
				return a.eachHost(c, func(client *authority.Client, h ident.Host) (string, error) {
					return "decommissioned", client.Decommission(c.Context, h)
				})
			},
		}, {
			Name:        "readmit",
			Usage:       "let decommissioned hosts join again, each with a new token",
			ArgsUsage:   "HOST…",
			Description: "Example:\n   sudo cis490 host readmit lab-07 && sudo cis490 token create lab-07",
			Flags:       []cli.Flag{a.configFlag(roleReceiver)},
			Action: func(c *cli.Context) error {
				return a.eachHost(c, func(client *authority.Client, h ident.Host) (string, error) {
					return "readmitted; now: sudo cis490 token create " + string(h), client.Readmit(c.Context, h)
				})
			},
		}}, a.approveCommands()...),
	}
}

// hostArgs parses the arguments as hosts; it needs at least one.
func hostArgs(c *cli.Context) ([]ident.Host, error) {
	args, err := looseArgs(c)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, usagef(c, "missing argument HOST")
	}
	var hosts []ident.Host
	for _, s := range args {
		h, err := ident.ParseHost(s)
		if err != nil {
			return nil, usagef(c, "%w", err)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// eachHost calls a function for each named host, and continues after a failure.
func (a *app) eachHost(c *cli.Context, do func(*authority.Client, ident.Host) (string, error)) error {
	hosts, err := hostArgs(c)
	if err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	client := authority.NewClient(conf.Authority.Socket)
	var failed []error
	for _, h := range hosts {
		done, err := do(client, h)
		if err != nil {
			failed = append(failed, suggestHost(conf, h, err))
			continue
		}
		a.printf("%s: %s\n", h, done)
	}
	return errors.Join(failed...)
}

func joinHosts(hosts []ident.Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, string(h))
	}
	return strings.Join(names, ", ")
}

// contact is the part of serve's contacts that is printed with the roster.
type contact struct {
	LastContact time.Time `json:"last_contact,omitzero"` // last authenticated request
	Version     string    `json:"version,omitempty"`     // by the host's last ping
	From        string    `json:"from,omitempty"`
}

// joined returns the status of each host. If the contacts cannot be read, it returns the
// roster alone.
func (a *app) joined(conf config.Receiver, back receiver.Backend, hosts []roster.Host, open []fleet.Alert) map[ident.Host]*fleet.Status {
	book, err := contacts.Of(back, clock.Read(disk.OS{})())
	if err != nil {
		a.errorf("warning: cannot read last-contact data: %v", err)
	}
	by := map[ident.Host]*fleet.Status{}
	known := fleet.Known{Roster: hosts, Hosts: book.Hosts, Open: open, Fresh: fleet.LimitsOf(conf).Fresh()}
	for _, x := range fleet.Join(known, time.Now()) {
		by[x.Name] = x
	}
	return by
}

func contactOf(k *contacts.Contact) contact {
	if k == nil {
		return contact{}
	}
	return contact{LastContact: k.LastContact, Version: check.Sanitize(k.Version, 40), From: k.From}
}

// note returns remarks about a host.
func note(h roster.Host) string {
	var notes []string
	if h.State == roster.Gone && h.Other != "" {
		notes = append(notes, "replaced by "+string(h.Other))
	} else if h.Other != "" {
		notes = append(notes, "replaces "+string(h.Other))
	}
	if !h.TokenExpires.IsZero() {
		notes = append(notes, "token until "+plain.Time(h.TokenExpires))
	}
	if !h.Misused.IsZero() {
		notes = append(notes, fmt.Sprintf("its token was tried by another machine (%s, %s)", h.MisusedFrom, plain.Time(h.Misused)))
	}
	return strings.Join(notes, "; ")
}

func (a *app) hostShow(c *cli.Context) error {
	hosts, err := hostArgs(c)
	if err != nil {
		return err
	}
	if len(hosts) > 1 {
		return usagef(c, "unexpected argument %q", hosts[1])
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	x, err := read(c.Context, conf, readHost(hosts[0]), func() (hostShown, error) { return a.hostShown(conf, c.String("config"), hosts[0]) })
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return a.printJSON(x)
	}
	h := x.Host
	a.printf("host         %s\nhealth       %s\nstate        %s since %s\n", h.Name, x.Health, h.State, plain.Time(h.Since))
	for _, line := range []struct {
		label string
		at    time.Time
	}{{"enrolled", h.EnrolledAt}, {"cert expires", h.CertExpires}} {
		a.printf("%-12s %s\n", line.label, plain.Time(line.at))
	}
	a.printf("key          %s\n", h.Key)
	if x.contact != (contact{}) {
		a.printf("last contact %s from %s, version %s\n", plain.Time(x.LastContact), cmp.Or(x.From, "-"), cmp.Or(x.Version, "-"))
	}
	if n := note(h); n != "" {
		a.printf("note         %s\n", n)
	}
	a.printf("last report  %s\n", plain.Time(x.Snapshot))
	if len(x.Failing) > 0 {
		a.printf("failing      %s\n", strings.Join(x.Failing, ", "))
	}
	a.printAlerts(x.Alerts)
	for _, next := range x.Next {
		a.printf("next         %s\n", next)
	}
	return nil
}

// hostShown is a host as `host show --json` prints it.
type hostShown struct {
	roster.Host
	Health fleet.Health `json:"health"`
	contact
	fleet.Forecast
	Alerts []fleet.Alert `json:"alerts"`
}

func notInFleet(h ident.Host) error {
	return fault.Fix(fmt.Errorf("%s is not in this fleet", h), "sudo cis490 host list")
}

func (a *app) hostShown(conf config.Receiver, path string, name ident.Host) (hostShown, error) {
	h, known, err := local.Roster(disk.OS{}, conf.Authority.Dir).Host(name)
	if err == nil && !known {
		err = suggestHost(conf, name, notInFleet(name))
	}
	if err != nil {
		return hostShown{}, err
	}
	forecast, alerts := a.forecast(conf, path, name)
	x := a.joined(conf, stored(conf, path), []roster.Host{h}, alerts)[name]
	return hostShown{h, x.Health, contactOf(x.Contact), forecast, alerts}, nil
}
