package commands

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/install/update"
	"cis490/internal/check"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/manifest"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/rollout"
	"cis490/receiver/roster"
)

func (a *app) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show the state of this machine and, on a receiver, of its hosts",
		ArgsUsage: noArgs,
		Description: "On a receiver: whether it accepts episodes, each host with its last accepted episode,\n" +
			"and the open alerts. On a lab host: queue, certificate, gate and update.\n\n" +
			"Examples:\n   sudo cis490 status\n   sudo cis490 status --watch",
		Flags: append(roleFlags(), jsonFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "update the output when it changes"}),
		Action: a.status,
	}
}

func (a *app) status(c *cli.Context) error {
	if err := peopleOrPrograms(c); err != nil {
		return err
	}
	places, err := a.roles(c)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		return a.watch(c.Context, func(on *app) error { return on.statusOf(c.Context, places, false) })
	}
	return a.statusOf(c.Context, places, c.Bool("json"))
}

func (a *app) statusOf(ctx context.Context, places []roleConfig, asJSON bool) error {
	for i, p := range places {
		if i > 0 && !asJSON {
			a.printf("\n")
		}
		show := a.statusLabHost
		if p.role == roleReceiver {
			show = a.statusReceiver
		}
		if err := show(ctx, p, asJSON); err != nil {
			return err
		}
	}
	return nil
}

// receiverStatus is what status says of a receiver.
type receiverStatus struct {
	Role  string    `json:"role"`
	URL   string    `json:"public_url"`
	Ready check.Row `json:"ready"`
	// Receivers are all receivers on the database; empty: there is one.
	Receivers []receiverRow `json:"receivers,omitempty"`
	// Authority is which machine has the authority; nil: only one may have it.
	Authority *authorities `json:"authority,omitempty"`
	// FeedLag is how late pages show the newest rows of the database, in seconds; nil: it is not known.
	FeedLag *float64 `json:"feed_lag_seconds,omitempty"`
	// Update is how the updates of this machine itself stand; nil before the first.
	Update *wire.Update `json:"update,omitempty"`
	// Release is the newest release; nil: none is published.
	Release *manifest.Progress `json:"release,omitempty"`
	Waves   []rollout.Wave     `json:"waves,omitempty"` // of that release

	Last  time.Time     `json:"fleet_check,omitzero"`
	Hosts []hostStatus  `json:"hosts"`
	Open  []fleet.Alert `json:"alerts"`
}

// hostStatus is one line of it.
type hostStatus struct {
	Host     ident.Host      `json:"host"`
	State    roster.State    `json:"state,omitempty"`
	Health   fleet.Health    `json:"health"`
	Failing  []string        `json:"failing,omitempty"` // checks, while no alert is open
	Accepted time.Time       `json:"last_accepted,omitzero"`
	Episode  ident.EpisodeID `json:"last_episode,omitempty"`
	Episodes int             `json:"episodes_24h"`
	Bytes    int64           `json:"bytes_24h"`
	Contact  time.Time       `json:"last_contact,omitzero"`
	Queue    wire.Queue      `json:"queue"` // by the last ping
	Pinged   time.Time       `json:"last_ping,omitzero"`
	Version  string          `json:"version,omitempty"`
}

func (a *app) statusReceiver(ctx context.Context, p roleConfig, asJSON bool) error {
	conf, unknown, err := config.LoadReceiver(p.path)
	a.warnUnknown(unknown)
	if err != nil {
		return err
	}
	s, err := read(ctx, conf, readStatus, func() (receiverStatus, error) { return a.receiverStatus(ctx, p, conf) })
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(s)
	}
	a.printf("receiver %s: %s\n", s.URL, readiness(s.Ready))
	if err := a.receiversTable(s.Receivers); err != nil {
		return err
	}
	if s.Authority != nil {
		a.printf("authority: %s\n", s.Authority)
	}
	if s.FeedLag != nil && *s.FeedLag >= 60 {
		a.printf("rows of the last %s are not shown: sudo cis490 doctor --only ledger.feed\n",
			machine.HumanDuration(time.Duration(*s.FeedLag*float64(time.Second))))
	}
	if s.Update != nil {
		a.printf("updates: %s\n", machine.Updates(s.Update, nil).Detail)
	}
	if s.Release != nil {
		a.printf("%s\n", describeRelease(*s.Release))
		if err := a.waveTable(s.Waves); err != nil {
			return err
		}
	}
	if versions := describeVersions(s.Hosts); versions != "" {
		a.printf("hosts by version: %s\n", versions)
	}
	a.printf("\n")
	if len(s.Hosts) == 0 {
		a.printf("no hosts yet: sudo cis490 token create lab-01\n")
	} else if err := a.hostsTable(s.Hosts); err != nil {
		return err
	}
	a.printf("\n")
	a.printAlerts(s.Open)
	a.printf("%s\n", watched(fleet.Last{At: s.Last, Open: s.Open}))
	if slices.ContainsFunc(s.Hosts, func(h hostStatus) bool { return h.Health == fleet.Failing }) {
		a.printf("a failing check becomes an alert when fleet-check runs, every 5 minutes\n")
	}
	return nil
}

// receiverStatus reads the state of a receiver.
func (a *app) receiverStatus(ctx context.Context, p roleConfig, conf config.Receiver) (receiverStatus, error) {
	last, err := a.lastRun(conf, p.path)
	if err != nil {
		return receiverStatus{}, err
	}
	s := receiverStatus{Role: p.role, URL: conf.PublicURL, Last: last.At, Open: orEmpty(last.Open)}
	if p.installed() {
		if s.Update, err = update.ReadPublic(disk.OS{}, installDir); err != nil {
			return s, err
		}
	}
	_, all := a.receiverChecks(p, false)
	for _, k := range all {
		if k.ID == "receiver.ready" {
			s.Ready = check.Run(ctx, []check.Check{k})[0]
		}
	}
	members, err := cluster.Read(stored(conf, p.path).Peers)
	if err != nil {
		a.errorf("warning: cannot read the state of the receivers: %v", err)
	}
	s.Receivers = receiversOf(members)
	if s.Authority, err = authoritiesOf(conf, stored(conf, p.path)); err != nil {
		a.errorf("warning: cannot read which machine has the authority: %v", err)
	}
	if lag := stored(conf, p.path).Lag; lag != nil {
		if d, err := lag(); err == nil {
			seconds := d.Seconds()
			s.FeedLag = &seconds
		}
	}
	if s.Hosts, err = hostsOf(conf, stored(conf, p.path), last.Open, time.Now()); err != nil {
		return s, err
	}
	releases, err := progressOf(local.ReleasesDir(conf.DataDir))
	if err != nil {
		a.errorf("warning: cannot read releases: %v", err)
	} else if len(releases) > 0 {
		s.Release = &releases[0]
		var active []ident.Host
		for _, h := range s.Hosts {
			if h.State == roster.Active {
				active = append(active, h.Host)
			}
		}
		s.Waves = rollout.Waves(releases[0], active)
	}
	return s, nil
}

func readiness(r check.Row) string {
	if r.Status == check.Pass {
		return "ready"
	}
	return "not ready: " + r.Detail
}

// hostsOf lists the hosts that the roster, the contacts or the last day's index
// know, decommissioned ones without recent episodes left out.
func hostsOf(conf config.Receiver, back receiver.Backend, open []fleet.Alert, now time.Time) ([]hostStatus, error) {
	book, err := contacts.Of(back, clock.Read(disk.OS{})())
	if err != nil {
		return nil, err
	}
	known, err := local.Roster(disk.OS{}, conf.Authority.Dir).All()
	if err != nil {
		return nil, err
	}
	by := map[ident.Host]*hostStatus{}
	for row, err := range back.Index.Since(now.Add(-24 * time.Hour)) {
		if err != nil {
			return nil, err
		}
		if row.Archived {
			continue
		}
		h := by[row.Host]
		if h == nil {
			h = &hostStatus{}
			by[row.Host] = h
		}
		h.Accepted, h.Episode = row.ReceivedAt, row.Episode
		h.Episodes++
		h.Bytes += row.Size
	}
	joined := fleet.Known{
		Roster: known, Hosts: book.Hosts, Shipped: slices.Collect(maps.Keys(by)), Open: open, Fresh: fleet.LimitsOf(conf).Fresh(),
	}
	for _, x := range fleet.Join(joined, now) {
		h := by[x.Name]
		if h == nil {
			h = &hostStatus{}
			by[x.Name] = h
		}
		if h.Host, h.Health, h.Failing = x.Name, x.Health, x.Failing; x.Roster != nil {
			h.State = x.Roster.State
		}
		if k := x.Contact; k != nil {
			h.Contact, h.Pinged, h.Queue, h.Version = k.LastContact, k.LastPing, k.Queue, check.Sanitize(k.Version, 40)
			if h.Episodes == 0 {
				h.Accepted = k.LastAccepted
			}
		}
	}
	list := []hostStatus{}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if h := by[name]; h.State != roster.Gone || h.Episodes > 0 {
			list = append(list, *h)
		}
	}
	return list, nil
}

func (a *app) hostsTable(hosts []hostStatus) error {
	return a.table("HOST\tSTATE\tLAST ACCEPTED\t~EPISODE\t24 H\t~SIZE\tWAITING\t~VERSION", func(row func(...any)) {
		for _, h := range hosts {
			state := cmp.Or(string(h.Health), "-")
			if len(h.Failing) > 0 {
				state += ": " + strings.Join(h.Failing, ", ")
			}
			row(h.Host, state, ago(h.Accepted), cmp.Or(string(h.Episode), "-"), humanize.Comma(int64(h.Episodes)),
				humanize.IBytes(uint64(max(h.Bytes, 0))), h.waiting(), cmp.Or(h.Version, "-"))
		}
	})
}

// waiting returns how many episodes wait on the host, with the age of the ping that said so:
// the host may have shipped them since.
func (h hostStatus) waiting() string {
	n := humanize.Comma(int64(h.Queue.Waiting))
	if h.Queue.Waiting == 0 || time.Since(h.Pinged) < time.Minute {
		return n
	}
	return n + ", " + ago(h.Pinged)
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return machine.HumanDuration(max(time.Since(t), 0)) + " ago"
}

// labHostStatus is the status of a lab host.
type labHostStatus struct {
	Role     string      `json:"role"`
	Host     string      `json:"host"`
	Receiver string      `json:"receiver"`
	Version  string      `json:"version"`
	Queue    wire.Queue  `json:"queue"`
	Checks   []check.Row `json:"checks"`
}

func (a *app) statusLabHost(ctx context.Context, p roleConfig, asJSON bool) error {
	o, all := a.labHostChecks(p)
	if o.Err != nil {
		return o.Err
	}
	a.warnUnknown(o.Unknown)
	s := labHostStatus{Role: p.role, Host: o.Config.Host, Receiver: o.Config.Receiver.URL, Version: a.env.Build.Version}
	var err error
	if s.Queue, err = labchecks.Figures(disk.OS{}, o.Config.DataDir); err != nil {
		return err
	}
	shown := []string{"units.active", "cert.expiry", "receiver.auth", "gate.commit", "update.state", "version.offered"}
	var some []check.Check
	for _, id := range shown {
		if k, ok := registry(all)(id); ok {
			some = append(some, k)
		}
	}
	s.Checks = check.Run(ctx, some)
	if asJSON {
		return a.printJSON(s)
	}
	q := s.Queue
	a.printf("lab host %s, version %s, ships to %s\n\n", s.Host, s.Version, s.Receiver)
	a.printf("  recording    %d\n  waiting      %d (%s)\n  held         %d\n  quarantined  %d\n  last shipped %s\n\n",
		q.Recording, q.Waiting, humanize.IBytes(uint64(max(q.Bytes, 0))), q.Held, q.Quarantined, ago(q.LastShipped))
	for _, row := range s.Checks {
		a.printf("  ")
		putMark(a.env.Out, row.Status, a.terminal(a.env.Out))
		a.printf("  %s: %s\n", row.Title, row.Detail)
		if row.Fix != "" {
			a.printf("        fix: %s\n", row.Fix)
		}
	}
	return nil
}
