package commands

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/receiver/authority"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
)

// fleetView is the joined state of all hosts.
type fleetView struct {
	hosts []roster.Host
	last  fleet.Last
	by    map[ident.Host]*fleet.Status
}

func (a *app) hostList(c *cli.Context) error {
	if err := peopleOrPrograms(c); err != nil {
		return err
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		return a.watch(c.Context, func(on *app) error {
			v, err := on.fleetView(c.Context, conf, c.String("config"))
			if err != nil {
				return err
			}
			return on.page(v)
		})
	}
	v, err := a.fleetView(c.Context, conf, c.String("config"))
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return a.printJSON(v.rows())
	}
	return a.hostTable(v, len(v.hosts))
}

func (a *app) fleetView(ctx context.Context, conf config.Receiver, path string) (v fleetView, err error) {
	if v.hosts, err = authority.NewClient(conf.Authority.Socket).Hosts(ctx); err != nil {
		return v, err
	}
	back := stored(conf, path)
	if v.last, err = fleet.ReadOpen(back, time.Now()); err != nil {
		a.errorf("warning: cannot read open alerts: %v", err)
	}
	v.by = a.joined(conf, back, v.hosts, v.last.Open)
	return v, nil
}

// hostRow is a host as --json prints it.
type hostRow struct {
	roster.Host
	Health fleet.Health `json:"health"`
	*contact
	Symptoms []string `json:"symptoms,omitempty"`
	Failing  []string `json:"failing,omitempty"` // checks, while no alert is open
}

func (v fleetView) rows() []hostRow {
	rows := []hostRow{}
	for _, h := range v.hosts {
		x := v.by[h.Name]
		rows = append(rows, hostRow{h, x.Health, contactOf(x.Contact), x.Symptoms(), x.Failing})
	}
	return rows
}

// hostTable prints the first hosts of a view.
func (a *app) hostTable(v fleetView, most int) error {
	const header = "HOST\tHEALTH\t~STATE\t~SINCE\t~CERTIFICATE UNTIL\tLAST CONTACT\t~VERSION\tALERTS, CHECKS\tNOTE"
	return a.table(header, func(row func(...any)) {
		for _, h := range v.rows()[:min(most, len(v.hosts))] {
			last, version := "-", "-"
			if k := h.contact; k != nil {
				last, version = stamp(k.LastContact), cmp.Or(k.Version, "-")
			}
			row(
				h.Name, h.Health, h.State, stamp(h.Since), stamp(h.CertExpires), last, version,
				cmp.Or(strings.Join(slices.Concat(h.Symptoms, h.Failing), ", "), "-"), note(h.Host),
			)
		}
	})
}

// page prints a view: the sick hosts first, and as many as fit.
func (a *app) page(v fleetView) error {
	height, _ := a.size()
	lines := max(height-5, 1)
	urgency := func(h roster.Host) int { return slices.Index(fleet.Healths(), v.by[h.Name].Health) }
	slices.SortStableFunc(v.hosts, func(x, y roster.Host) int { return urgency(x) - urgency(y) })
	if err := a.hostTable(v, lines); err != nil {
		return err
	}
	if left := len(v.hosts) - lines; left > 0 {
		a.printf("and %d more\n", left)
	}
	var own []string
	for _, x := range v.last.Open {
		if x.Host == fleet.Receiver {
			own = append(own, x.Symptom)
		}
	}
	if len(own) > 0 {
		a.printf("the receiver itself: %s\n", strings.Join(own, ", "))
	}
	a.printf("%s at the check of %s", openAlerts(len(v.last.Open)), stamp(v.last.At))
	if time.Since(v.last.At) > 3*machine.FleetCheckEvery {
		a.printf(": it should run every 5 minutes")
	}
	a.printf("\n")
	return nil
}
