// Package checks is the registry of a lab host's checks, used by doctor, health-check,
// install (preflight) and pings.
//
// Checks change nothing, except for the Repair of two of them, and keep no state. No check
// depends on another: with a broken config, or without network, systemd or root, each
// passes, fails or skips by itself. No check prints a secret, only file names, times and
// modes.
package checks

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Pinger pings the receiver with this host's credentials.
type Pinger interface {
	Ping(ctx context.Context, p wire.Ping) (wire.Pong, error)
}

// Options configure the checks. The zero value gives the registry itself (ids, titles,
// fixes) on a machine that is not a lab host.
type Options struct {
	Path    string         // of the config file
	Config  config.LabHost // defaults where Err is not nil
	Err     error          // why the config could not be read
	Unknown []*config.Error
	Build   version.Info
	Now     func() time.Time // nil: time.Now

	Receiver   Pinger                            // nil: checks that need the receiver skip
	Queue      func() (wire.Queue, error)        // nil: the spool's checks skip
	Unreached  func() (time.Time, error)         // when the receiver was last unreachable; nil: never
	Quarantine func() (map[string]int, error)    // quarantined episodes by reason; nil: skip
	Stuck      func() ([]ident.EpisodeID, error) // episodes whose folders cannot be moved; nil: skip
	Experiment func() (name string, err error)   // parses the experiment; nil: skip
	Updates    func() (*wire.Update, error)      // the status that autoupdate wrote; nil: skip
	// Offered returns the version offered to this host, or empty; nil: skip.
	Offered  func(context.Context) (string, error)
	Systemd  machine.Asker        // nil: no systemd on this host
	Units    machine.UnitSet      // the units of the role
	User     string               // owner of the data; empty: the owner of data_dir
	Recorder string               // owner of episodes/; empty: not checked
	Awake    func() time.Duration // nil: machine.Awake
}

// host holds the options of one doctor run and the answers that several checks share.
type host struct {
	Options
	pong  func() (wire.Pong, error)
	queue func() (wire.Queue, error)
}

const here = "on the lab host: "

// Checks returns the registry, in the order that doctor prints.
func Checks(o Options) []check.Check {
	h := newHost(o)
	all := h.local()
	at := len(all)
	for i, c := range all { // network checks come after the credentials
		if c.ID == "units.enabled" {
			at = i
			break
		}
	}
	all = slices.Insert(all, at, h.remote()...)
	for i := range all {
		all[i].Fix = wire.FixFor(all[i].Fix, o.Config.Host)
	}
	return all
}

// Local returns the checks that send no requests. A ping carries the ids of those that
// fail.
func Local(o Options) []check.Check { return newHost(o).local() }

func newHost(o Options) *host {
	if o.Path == "" {
		o.Path = config.LabHostPath
	}
	if o.Config.DataDir == "" {
		o.Config = config.DefaultLabHost()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Awake == nil {
		o.Awake = machine.Awake
	}
	h := &host{Options: o}
	if o.Queue != nil {
		h.queue = machine.CacheBriefly(o.Queue)
	}
	h.pong = machine.CacheBriefly(h.ping)
	return h
}

// ping pings the receiver once for all checks of a run. It sends the same fields as the
// shipper's pings, so that the receiver's record of the host stays the same, but no boot
// id, which differs inside a sandbox.
func (h *host) ping() (wire.Pong, error) {
	ctx, cancel := context.WithTimeout(context.Background(), check.Timeout-time.Second)
	defer cancel()
	p := wire.Ping{
		Version: h.Build.Version, Commit: h.Build.Commit,
		Failing: check.Failing(check.Run(ctx, h.local())),
	}
	if h.queue != nil {
		q, err := h.queue()
		if err != nil {
			return wire.Pong{}, err
		}
		p.Queue = q
	}
	p.Clock = h.Now().UTC()
	return h.Receiver.Ping(ctx, p)
}

func (h *host) local() []check.Check {
	all := []check.Check{{
		ID: "config.valid", Title: "Config is valid", Severity: check.Hard,
		Fix: here + "sudo cis490 config check   # then edit " + h.Path,
		Doc: "The config file can be read, every value is valid, and every key is known. " +
			"An unknown key is a warning: the daemons ignore it.",
		Run: func(context.Context) check.Result { return machine.Config(h.Path, h.Err, h.Unknown) },
	}}
	all = append(all, h.credentials()...)
	all = append(all, h.build()...)
	all = append(all, machine.UnitChecks(h.Systemd, h.Units, "lab host", "cis490 install lab-host", h.Now)...)
	all = append(all, h.spool()...)
	return append(all, h.system()...)
}

// needsConfig skips a check when the config cannot be read.
func (h *host) needsConfig(run func(context.Context) check.Result) func(context.Context) check.Result {
	return func(ctx context.Context) check.Result {
		if h.Err != nil {
			return check.Skipf("the config is not readable")
		}
		return run(ctx)
	}
}

func (h *host) cert(name string) string { return filepath.Join(h.Config.CertsDir, name) }
