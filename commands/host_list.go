package commands

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/cluster"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// fleetView is the joined state of all hosts.
type fleetView struct {
	Hosts []hostRow  `json:"hosts"`
	Last  fleet.Last `json:"last"`
	// Receivers are all receivers on the database; empty: there is one.
	Receivers []receiverRow `json:"receivers,omitempty"`
}

// hostRow is a host as --json prints it.
type hostRow struct {
	roster.Host
	Health fleet.Health `json:"health"`
	contact
	Symptoms []string `json:"symptoms,omitempty"`
	Failing  []string `json:"failing,omitempty"` // checks, while no alert is open
}

func (a *app) hostList(c *cli.Context) error {
	if err := peopleOrPrograms(c); err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	view := func(on *app) (fleetView, error) {
		return read(c.Context, conf, readHosts, func() (fleetView, error) { return on.fleetView(conf, c.String("config")) })
	}
	if c.Bool("watch") {
		return a.watch(c.Context, func(on *app) error {
			v, err := view(on)
			if err != nil {
				return err
			}
			return on.page(v)
		})
	}
	v, err := view(a)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return a.printJSON(v.Hosts)
	}
	if err := a.hostTable(v.Hosts); err != nil {
		return err
	}
	a.sayReceivers(v.Receivers)
	return nil
}

func (a *app) fleetView(conf config.Receiver, path string) (v fleetView, err error) {
	v.Hosts = []hostRow{}
	hosts, err := local.Roster(disk.OS{}, conf.Authority.Dir).All()
	if err != nil {
		return v, err
	}
	back := stored(conf, path)
	last, err := fleet.ReadOpen(back, time.Now())
	if err != nil {
		a.errorf("warning: cannot read open alerts: %v", err)
	}
	v.Last = fleet.Last{At: last.At, Open: last.Open}
	by := a.joined(conf, back, hosts, v.Last.Open)
	for _, h := range hosts {
		x := by[h.Name]
		v.Hosts = append(v.Hosts, hostRow{h, x.Health, contactOf(x.Contact), x.Symptoms(), x.Failing})
	}
	members, err := cluster.Read(back.Peers)
	if err != nil {
		a.errorf("warning: cannot read the state of the receivers: %v", err)
	}
	v.Receivers = receiversOf(members)
	return v, nil
}

// hostTable prints hosts.
func (a *app) hostTable(hosts []hostRow) error {
	const header = "HOST\tHEALTH\t~STATE\t~SINCE\t~CERTIFICATE UNTIL\tLAST CONTACT\t~VERSION\tALERTS, CHECKS\tNOTE"
	return a.table(header, func(row func(...any)) {
		for _, h := range hosts {
			row(
				h.Name, h.Health, h.State, plain.Time(h.Since), plain.Time(h.CertExpires), plain.Time(h.LastContact), cmp.Or(h.Version, "-"),
				cmp.Or(strings.Join(slices.Concat(h.Symptoms, h.Failing), ", "), "-"), note(h.Host),
			)
		}
	})
}

// page prints a view: the sick hosts first, and as many as fit.
func (a *app) page(v fleetView) error {
	height, _ := a.size()
	lines := max(height-5, 1)
	urgency := func(h hostRow) int { return slices.Index(fleet.Healths(), h.Health) }
	slices.SortStableFunc(v.Hosts, func(x, y hostRow) int { return urgency(x) - urgency(y) })
	if err := a.hostTable(v.Hosts[:min(lines, len(v.Hosts))]); err != nil {
		return err
	}
	if left := len(v.Hosts) - lines; left > 0 {
		a.printf("and %d more\n", left)
	}
	a.sayReceivers(v.Receivers)
	var own []string
	for _, x := range v.Last.Open {
		if x.Host == fleet.Receiver {
			own = append(own, x.Symptom)
		}
	}
	if len(own) > 0 {
		a.printf("the receiver itself: %s\n", strings.Join(own, ", "))
	}
	a.printf("%s at the check of %s", openAlerts(len(v.Last.Open)), plain.Time(v.Last.At))
	if time.Since(v.Last.At) > 3*machine.FleetCheckEvery {
		a.printf(": it should run every 5 minutes")
	}
	a.printf("\n")
	return nil
}
