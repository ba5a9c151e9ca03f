package config

import (
	"cis490/internal/ident"
)

// LabHost is lab-host.toml.
type LabHost struct {
	Host        string      `toml:"host"`
	DataDir     string      `toml:"data_dir"`
	CertsDir    string      `toml:"certs_dir"`
	Receiver    Endpoint    `toml:"receiver"`
	Authority   Endpoint    `toml:"authority"`
	Ship        Ship        `toml:"ship"`
	Orchestrate Orchestrate `toml:"orchestrate"`
	Doctor      Doctor      `toml:"doctor"`
	Update      Update      `toml:"update"`
}

// Endpoint is a server of the fleet.
type Endpoint struct {
	URL string `toml:"url"`
}

// Ship configures the outbox daemon.
type Ship struct {
	PingEvery          Duration `toml:"ping_every"`
	ScanEvery          Duration `toml:"scan_every"`
	ReconcileEvery     Duration `toml:"reconcile_every"`
	ShippedKeepDays    int      `toml:"shipped_keep_days"`
	ShippedKeepBytes   Size     `toml:"shipped_keep_bytes"`
	QuarantineKeepDays int      `toml:"quarantine_keep_days"` // 0: no limit
	BandwidthPerSecond Size     `toml:"bandwidth_per_second"` // 0: no limit
	IdleTimeout        Duration `toml:"idle_timeout"`
}

// Orchestrate configures recording.
type Orchestrate struct {
	Experiment  string   `toml:"experiment"` // path; empty: the release's own
	MaxSlots    int      `toml:"max_slots"`  // 0: as many as the machine's resources allow
	Rest        Duration `toml:"rest"`       // between two episodes of a slot
	DiskReserve Size     `toml:"disk_reserve"`
	OutboxLimit Size     `toml:"outbox_limit"`
}

// Doctor configures the thresholds of checks.
type Doctor struct {
	OutboxOldest Duration `toml:"outbox_oldest"`
	LastAccepted Duration `toml:"last_accepted"`
	ClockSkew    Duration `toml:"clock_skew"`
}

// Update configures the trial of a new version, for both roles.
type Update struct {
	Trial Duration `toml:"trial"` // observed uptime
	Watch Duration `toml:"watch"` // for an early crash after the start
}

// DefaultUpdate holds the defaults of updates.
func DefaultUpdate() Update { return Update{Trial: minutes(10), Watch: seconds(90)} }

// DefaultLabHost holds every default of a lab host.
func DefaultLabHost() LabHost {
	return LabHost{
		DataDir:  "/var/lib/cis490/data",
		CertsDir: "/etc/cis490/certs",
		Ship: Ship{
			PingEvery:        minutes(5),
			ScanEvery:        seconds(60),
			ReconcileEvery:   hours(24),
			ShippedKeepDays:  14,
			ShippedKeepBytes: 10 << 30,
			IdleTimeout:      seconds(60),
		},
		Orchestrate: Orchestrate{
			Rest:        minutes(1),
			DiskReserve: 2 << 30,
			OutboxLimit: 20 << 30,
		},
		Doctor: Doctor{
			OutboxOldest: minutes(30),
			LastAccepted: minutes(30),
			ClockSkew:    minutes(2),
		},
		Update: DefaultUpdate(),
	}
}

// Validate returns all errors as *Error with the key.
func (c LabHost) Validate() []error {
	var p problems
	if _, err := ident.ParseHost(c.Host); err != nil {
		p.add("host", "set the name in this host's join token: 1 to 63 of a-z, 0-9 and '-'")
	}
	p.absolute("data_dir", c.DataDir)
	p.absolute("certs_dir", c.CertsDir)
	p.httpsURL("receiver.url", c.Receiver.URL)
	p.httpsURL("authority.url", c.Authority.URL)
	p.lasting("ship.ping_every", c.Ship.PingEvery)
	p.lasting("ship.scan_every", c.Ship.ScanEvery)
	p.lasting("ship.reconcile_every", c.Ship.ReconcileEvery)
	p.lasting("ship.idle_timeout", c.Ship.IdleTimeout)
	p.notNegative("ship.shipped_keep_days", int64(c.Ship.ShippedKeepDays))
	p.notNegative("ship.quarantine_keep_days", int64(c.Ship.QuarantineKeepDays))
	p.notNegative("orchestrate.max_slots", int64(c.Orchestrate.MaxSlots))
	if c.Orchestrate.Experiment != "" {
		p.absolute("orchestrate.experiment", c.Orchestrate.Experiment)
	}
	p.lasting("doctor.outbox_oldest", c.Doctor.OutboxOldest)
	p.lasting("doctor.last_accepted", c.Doctor.LastAccepted)
	p.lasting("doctor.clock_skew", c.Doctor.ClockSkew)
	p.lasting("update.trial", c.Update.Trial)
	p.lasting("update.watch", c.Update.Watch)
	return p.all
}
