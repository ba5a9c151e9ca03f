// Package checks is the registry of the receiver's checks, for doctor and for
// fleet-check's symptoms of the receiver.
//
// Checks change nothing, except for the Repair of two of them. They have no state. Each
// check stands alone: with a damaged config, a stopped serve, without systemd or root, it
// still passes, fails or skips. Checks do not read secrets, only their owner and mode.
//
//storage:files checks config, keys and certificates on this machine
package checks

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/local"
	"cis490/receiver/notify"
)

// Options describe the receiver to check. The zero value is enough to list the registry.
type Options struct {
	Path    string          // of the config file
	Config  config.Receiver // the defaults if Err is set
	Err     error           // why the config could not be read
	Unknown []*config.Error
	Build   version.Info
	Backend receiver.Backend // the zero Backend: the config's
	Now     func() time.Time // nil: time.Now
	// Synced checks that the clock is synchronized; nil: machine.ClockSynced.
	Synced func(context.Context) check.Result
	Deep   bool // compare every row with its file, not a sample

	// Client sends requests to serve and the authority on this machine and trusts the
	// fleet's CA; nil: checks that need it skip.
	Client *http.Client
	Base   string // URL of serve; empty: public_url
	// Standby returns why this machine could not take over the authority, and the fix; nil: not asked.
	Standby func(context.Context) (problem, fix string, err error)
	Systemd machine.Asker // nil: no systemd runs this receiver
	Units   machine.UnitSet
	User    string // owner of the data; empty: not judged
	// AuthorityUser owns the authority's files; empty: not judged.
	AuthorityUser string
}

type registry struct {
	Options
	targets func() []notify.Target // reads [notify] once: checks run side by side
}

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
	r := &registry{o, sync.OnceValue(func() []notify.Target { return notify.Targets(o.Config.Notify) })}
	all := []check.Check{{
		ID: "config.valid", Title: "Config is valid", Severity: check.Hard,
		Fix: here + "sudo cis490 config check   # then edit " + r.Path,
		Doc: "The config file can be read, every value is one that the program takes, and every key is known. An unknown key is a " +
			"warning: the daemons ignore it.",
		Run: func(context.Context) check.Result { return machine.Config(r.Path, r.Err, r.Unknown) },
	}}
	all = append(all, r.servers()...)
	all = append(all, r.setup()...)
	all = append(all, machine.UnitChecks(r.Systemd, r.Units, "receiver", "cis490 install receiver", r.Now)...)
	all = append(all, r.ledgers()...)
	all = append(all, r.cluster()...)
	return append(all, r.system()...)
}

// needsConfig makes a check skip if the config cannot be read.
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
	authority := here + "sudo journalctl -u cis490-bootstrap -n 20 --no-pager; sudo cis490 install receiver"
	certificate := here + "sudo systemctl restart cis490-bootstrap   # issues a new one; if [tls] certificate is your own, renew it yourself"
	if r.Config.Authority.Elsewhere {
		authority += "   # on the one with the authority"
		certificate = here + renewFix + "   # if [tls] certificate is your own, renew it yourself"
	}
	return []check.Check{
		{
			ID: "receiver.ready", Title: "Receiver accepts episodes", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-receiver -n 20 --no-pager; sudo cis490 install receiver",
			Doc: "GET /readyz answers 200: server certificate, trusted CA, roster, gate, index, store and free space are as serve needs them, " +
				"and no request of a host failed because of a fault of the receiver. The answer lists unmet conditions.",
			Run: r.needsConfig(func(ctx context.Context) check.Result { return r.get(ctx, r.Base, wire.ReadyzPath) }),
		},
		{
			ID: "gate.loaded", Title: "Gate has loaded its list", Severity: check.Hard,
			Fix: here + "sudo cis490 config check; sudo journalctl -u cis490-receiver -n 20 --no-pager",
			Doc: "The gate has loaded its list of accepted commits. Before that, every episode is answered 503, and hosts keep their episodes.",
			Run: r.needsConfig(func(ctx context.Context) check.Result { return r.gate(ctx) }),
		},
		{
			ID: "authority.reachable", Title: "Authority answers", Severity: check.Hard,
			Fix: authority,
			Doc: "The server that issues and renews certificates answers. Without it no host can enroll, and a certificate that is due for " +
				"renewal expires after a third of cert_life, by default ten days.",
			Run: r.needsConfig(func(ctx context.Context) check.Result {
				return r.get(ctx, r.Config.Authority.URL, wire.AuthorityHealthPath)
			}),
		},
		{
			ID: "server.cert", Title: "Server certificate is valid", Severity: check.Hard,
			Fix: certificate,
			Doc: "The certificate of serve has not expired. The authority renews its own in time.",
			Run: r.needsConfig(r.serverCert),
		},
		{
			ID: "fleetcheck.last", Title: "Fleet monitoring is running", Severity: check.Hard,
			Fix: here + "sudo systemctl enable --now cis490-fleet-health.timer; sudo journalctl -u cis490-fleet-health -n 20 --no-pager",
			Doc: "fleet-check ran within three of its intervals of 5 minutes. While it does not run, there are no alerts, even for sick hosts.",
			Run: r.needsConfig(r.fleetCheck),
		},
		{
			ID: "releases.signed", Title: "Hosts can install the release", Severity: check.Hard,
			Fix: here + "sudo cis490 release list   # then publish it again from the release directory: sudo cis490 release publish DIR",
			Doc: "The newest offered release is signed with one of the hosts' release keys, and its files exist. Otherwise hosts " +
				"refuse it and keep their version.",
			Run: r.needsConfig(r.releases),
		},
		{
			ID: "notifier.last", Title: "Notifications are delivered", Severity: check.Hard,
			Fix: here + "sudo journalctl -u cis490-fleet-health -n 20 --no-pager   # then fix the target, or [notify] in " + r.Path,
			Doc: "The last delivery to each target of [notify] succeeded. The check fails after 15 minutes of failed deliveries. " +
				"fleet-check retries undelivered alerts for a day.",
			Run: r.needsConfig(r.notifier),
		},
	}
}

func (r *registry) get(ctx context.Context, base, path string) check.Result {
	if r.Client == nil {
		return check.Skipf("cannot read the fleet's CA certificate here to verify the server")
	}
	return machine.Get(ctx, r.Client, base, path)
}
