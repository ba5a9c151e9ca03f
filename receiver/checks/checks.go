// Package checks is the registry of the receiver's checks: what doctor prints
// there, and what fleet-check takes for the receiver's own symptoms.
//
// It changes nothing, except what the Repair of two checks says it does. It
// keeps no state, so a crash costs nothing. Each check judges by itself: with a
// broken config, a stopped serve, no systemd or no root it finds, passes or
// skips. It refuses to read keys: of secrets only owner and mode are told.
package checks

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
)

// Options say what is checked. The zero value gives the registry.
type Options struct {
	Path    string          // of the config file
	Config  config.Receiver // defaults where Err is not nil
	Err     error           // why the config could not be read
	Unknown []*config.Error
	Build   version.Info
	Backend receiver.Backend // the zero Backend: that of Config
	Now     func() time.Time // nil: time.Now
	// Synced judges whether something keeps the clock right; nil: machine.ClockSynced.
	Synced func(context.Context) check.Result
	Deep   bool // compare every row with its file, not a sample

	// Client reaches serve and authority from this machine, trusting the fleet's
	// CA; nil: what asks them skips.
	Client  *http.Client
	Base    string        // URL of serve for it; empty: public_url
	Systemd machine.Asker // nil: no systemd runs this receiver
	Units   machine.UnitSet
	User    string // owner of the data; empty: not judged
	// AuthorityUser owns the authority's files; empty: not judged.
	AuthorityUser string
}

type registry struct{ Options }

const here = "on the receiver: "

// Checks returns the registry in the order in which doctor prints it.
func Checks(o Options) []check.Check {
	if o.Path == "" {
		o.Path = config.ReceiverPath
	}
	if o.Config.DataDir == "" {
		o.Config = config.DefaultReceiver()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Synced == nil {
		o.Synced = machine.ClockSynced
	}
	if o.Base == "" {
		o.Base = o.Config.PublicURL
	}
	if o.Backend.Index == nil {
		o.Backend = local.Open(local.Options{FS: disk.OS{}, Dir: o.Config.DataDir, Now: o.Now})
	}
	r := &registry{o}
	all := []check.Check{{
		ID: "config.valid", Title: "Config is valid", Severity: check.Hard,
		Fix: here + "sudo cis490 config check   # then edit " + r.Path,
		Doc: "The config file can be read, every value is one that the program takes, and every key is known. An unknown key is a warning: the daemons ignore it.",
		Run: func(context.Context) check.Result { return machine.Config(r.Path, r.Err, r.Unknown) },
	}}
	all = append(all, r.servers()...)
	all = append(all, r.setup()...)
	all = append(all, machine.UnitChecks(r.Systemd, r.Units, "receiver", "cis490 install receiver", r.Now)...)
	all = append(all, r.ledgers()...)
	return append(all, r.system()...)
}

// needsConfig skips a check that makes no sense without a config.
func (r *registry) needsConfig(run func(context.Context) check.Result) func(context.Context) check.Result {
	return func(ctx context.Context) check.Result {
		if r.Err != nil {
			return check.Skipf("the config cannot be read")
		}
		return run(ctx)
	}
}

func (r *registry) authority(name string) string { return filepath.Join(r.Config.Authority.Dir, name) }

func (r *registry) servers() []check.Check {
	return []check.Check{
		{
			ID: "receiver.ready", Title: "Receiver takes episodes", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-receiver -n 20 --no-pager; sudo cis490 install receiver",
			Doc: "GET /readyz answers 200: server certificate, trusted CA, roster, gate, index, store and free space are all as serve needs them, " +
				"and no request of a host failed through a fault of the receiver. The answer names what is missing.",
			Run: r.needsConfig(func(ctx context.Context) check.Result { return r.get(ctx, r.Base, wire.ReadyzPath) }),
		},
		{
			ID: "gate.loaded", Title: "Gate knows what it accepts", Severity: check.Hard,
			Fix: here + "sudo cis490 config check; sudo journalctl -u cis490-receiver -n 20 --no-pager",
			Doc: "The gate has loaded a list. Before it has, every episode is answered 503, so hosts keep what they have.",
			Run: r.needsConfig(func(ctx context.Context) check.Result { return r.gate(ctx) }),
		},
		{
			ID: "authority.reachable", Title: "Authority answers", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-bootstrap -n 20 --no-pager; sudo cis490 install receiver",
			Doc: "The server that issues and renews certificates answers. Without it no host enrols, and after ten days certificates run out.",
			Run: r.needsConfig(func(ctx context.Context) check.Result {
				return r.get(ctx, r.Config.Authority.URL, wire.AuthorityHealthPath)
			}),
		},
		{
			ID: "server.cert", Title: "Server certificate is valid", Severity: check.Hard,
			Fix: here + "sudo systemctl restart cis490-bootstrap   # issues a new one; one of your own in [tls] certificate is yours to renew",
			Doc: "The certificate that serve shows hosts has not run out. The authority renews its own in time.",
			Run: r.needsConfig(r.serverCert),
		},
		{
			ID: "fleetcheck.last", Title: "Fleet monitoring is running", Severity: check.Hard,
			Fix: here + "sudo systemctl enable --now cis490-fleet-health.timer; sudo journalctl -u cis490-fleet-health -n 20 --no-pager",
			Doc: "fleet-check ran within three of its intervals of 5 minutes. When it does not run, no alert comes, and silence looks like health.",
			Run: r.needsConfig(r.fleetCheck),
		},
		{
			ID: "releases.signed", Title: "Releases can be taken", Severity: check.Hard,
			Fix: here + "sudo cis490 release list   # then publish it again from the release directory: sudo cis490 release publish DIR",
			Doc: "The newest release that is offered is signed by a key that hosts are given, and its files are there. Otherwise hosts refuse it and stay on what they have.",
			Run: r.needsConfig(r.releases),
		},
		{
			ID: "notifier.last", Title: "Notifications are delivered", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-fleet-health -n 20 --no-pager   # then mend the target, or [notify] in " + r.Path,
			Doc: "The last delivery to each target of [notify] worked. A failure that lasts for a quarter of an hour fails; what was not delivered is kept for a day and tried by each fleet-check.",
			Run: r.needsConfig(r.notifier),
		},
	}
}

func (r *registry) get(ctx context.Context, base, path string) check.Result {
	if r.Client == nil {
		return check.Skipf("the fleet's CA certificate cannot be read here, so the server could not be known")
	}
	return machine.Get(ctx, r.Client, base, path)
}
