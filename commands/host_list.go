package commands

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/plain"
	"cis490/receiver/authority"
	"cis490/receiver/fleet"
	"cis490/receiver/roster"
)

// watchEvery is how often the live view checks for changes.
const watchEvery = 2 * time.Second

// fleetView is the joined state of all hosts.
type fleetView struct {
	hosts []roster.Host
	last  fleet.Last
	by    map[ident.Host]*fleet.Status
}

func (a *app) hostList(c *cli.Context) error {
	if c.Bool("watch") && c.Bool("json") {
		return usagef(c, "--watch is for people, --json for programs: choose one")
	}
	conf, err := a.receiver(c)
	if err != nil {
		return err
	}
	v, err := a.fleetView(c.Context, conf, c.String("config"))
	switch {
	case err != nil:
		return err
	case c.Bool("watch"):
		return a.hostWatch(c.Context, conf, c.String("config"), v)
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
}

func (v fleetView) rows() []hostRow {
	rows := []hostRow{}
	for _, h := range v.hosts {
		x := v.by[h.Name]
		rows = append(rows, hostRow{h, x.Health, contactOf(x.Contact), x.Symptoms()})
	}
	return rows
}

// hostTable prints the first hosts of a view.
func (a *app) hostTable(v fleetView, most int) error {
	return a.table("HOST\tHEALTH\tSTATE\tSINCE\tCERTIFICATE UNTIL\tLAST CONTACT\tVERSION\tALERTS\tNOTE", func(row func(...any)) {
		for _, h := range v.rows()[:min(most, len(v.hosts))] {
			last, version := "-", "-"
			if k := h.contact; k != nil {
				last, version = stamp(k.LastContact), cmp.Or(k.Version, "-")
			}
			row(
				h.Name, h.Health, h.State, stamp(h.Since), stamp(h.CertExpires), last, version, cmp.Or(strings.Join(h.Symptoms, ", "), "-"),
				note(h.Host),
			)
		}
	})
}

// hostWatch prints a view, and again after each change: on a terminal in place of the one
// before, as far as it fits. It ends with the context.
func (a *app) hostWatch(ctx context.Context, conf config.Receiver, path string, v fleetView) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	screen, shown := a.terminal(a.env.Out), ""
	for err := error(nil); ; v, err = a.fleetView(ctx, conf, path) {
		text := ""
		if err == nil {
			text, err = a.page(v, a.height())
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // it may be transient
			text = fmt.Sprintf("%v\n", err)
		}
		if text != shown {
			if screen {
				controlf(a.env.Out, "\x1b[H\x1b[2J")
			} else if shown != "" {
				a.printf("\n")
			}
			a.printf("%s", text)
			shown = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// page returns a view as text: the sick hosts first, and as many as fit.
func (a *app) page(v fleetView, lines int) (string, error) {
	urgency := func(h roster.Host) int { return slices.Index(fleet.Healths(), v.by[h.Name].Health) }
	slices.SortStableFunc(v.hosts, func(x, y roster.Host) int { return urgency(x) - urgency(y) })
	var b bytes.Buffer
	on := *a
	on.env.Out = &b
	if err := on.hostTable(v, lines); err != nil {
		return "", err
	}
	if left := len(v.hosts) - lines; left > 0 {
		on.printf("and %d more\n", left)
	}
	var own []string
	for _, x := range v.last.Open {
		if x.Host == fleet.Receiver {
			own = append(own, x.Symptom)
		}
	}
	if len(own) > 0 {
		on.printf("the receiver itself: %s\n", strings.Join(own, ", "))
	}
	on.printf("%s at the check of %s", openAlerts(len(v.last.Open)), stamp(v.last.At))
	if time.Since(v.last.At) > 3*machine.FleetCheckEvery {
		on.printf(": it should run every 5 minutes")
	}
	on.printf("\n")
	return b.String(), nil
}

// height returns how many hosts fit on the terminal; without a terminal, all.
func (a *app) height() int {
	if f, ok := plain.Below(a.env.Out).(*os.File); ok && a.terminal(f) {
		if _, h, err := term.GetSize(int(f.Fd())); err == nil {
			return max(h-5, 1)
		}
	}
	return math.MaxInt
}
