// Package health is the registry of a lab host's checks: what doctor prints,
// health-check ships, install uses as preflight and a ping names.
//
// It changes nothing, except what the Repair of two checks says it does. It
// keeps no state, so a crash costs nothing. No check needs another to pass:
// with a broken config, without network, systemd or root each finds, passes or
// skips by itself. It refuses to print a secret: credentials are read to be
// judged and only their names, times and modes are told.
package health

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/machine"
	"cis490/internal/version"
	"cis490/internal/wire"
)

// Pinger asks the receiver with this host's credentials.
type Pinger interface {
	Ping(ctx context.Context, p wire.Ping) (wire.Pong, error)
}

// Options say what is checked. The zero value gives the registry: the checks'
// ids, titles and fixes, of use where no lab host is.
type Options struct {
	Path    string         // of the config file
	Config  config.LabHost // defaults where Err is not nil
	Err     error          // why the config could not be read
	Unknown []*config.Error
	Build   version.Info
	Now     func() time.Time // nil: time.Now

	Receiver   Pinger                            // nil: what needs the receiver skips
	Queue      func() (wire.Queue, error)        // of the spool; nil: the spool's checks skip
	Unreached  func() (time.Time, error)         // the receiver was out of reach last; nil: never
	Quarantine func() (map[string]int, error)    // how many are set aside, by reason; nil: skip
	Stuck      func() ([]ident.EpisodeID, error) // whose folders stay in the way; nil: skip
	Experiment func() (name string, err error)   // parses the experiment; nil: skip
	Updates    func() (*wire.Update, error)      // as autoupdate noted them; nil: skip
	// Offered asks for the version that this host should run, empty for none; nil: skip.
	Offered  func(context.Context) (string, error)
	Systemd  machine.Asker        // nil: no systemd runs this host
	Units    machine.UnitSet      // the units of the role
	User     string               // owner of the data; empty: whoever owns data_dir
	Recorder string               // owner of episodes/; empty: not judged
	Awake    func() time.Duration // nil: machine.Awake
}

// host is one doctor run's view: the options with what several checks share.
type host struct {
	Options
	pong  func() (wire.Pong, error)
	queue func() (wire.Queue, error)
}

const here = "on the lab host: "

// Checks returns the registry in the order in which doctor prints it.
func Checks(o Options) []check.Check {
	h := newHost(o)
	all := h.local()
	at := len(all)
	for i, c := range all { // the network's come after the credentials'
		if c.ID == "units.enabled" {
			at = i
			break
		}
	}
	all = slices.Insert(all, at, h.remote()...)
	if o.Config.Host != "" {
		for i := range all {
			all[i].Fix = strings.ReplaceAll(all[i].Fix, "HOST", o.Config.Host)
		}
	}
	return all
}

// Local returns the checks that ask nobody else: a ping carries the ids of
// those of them that fail.
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
		h.queue = machine.Share(o.Queue)
	}
	h.pong = machine.Share(h.ping)
	return h
}

// ping asks the receiver once for all checks of a run. It tells the same as the
// shipper's pings do, so that a doctor run does not blur what the receiver
// knows; but for the boot id, which sandboxes show differently.
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
		Doc: "The config file can be read, every value is one that the program takes, and every key is known. An unknown key is a warning: the daemons ignore it.",
		Run: func(context.Context) check.Result { return machine.Config(h.Path, h.Err, h.Unknown) },
	}}
	all = append(all, h.credentials()...)
	all = append(all, h.build()...)
	all = append(all, machine.UnitChecks(h.Systemd, h.Units, "lab host", "cis490 install lab-host", h.Now)...)
	all = append(all, h.spool()...)
	return append(all, h.system()...)
}

// needsConfig skips a check that makes no sense without a config.
func (h *host) needsConfig(run func(context.Context) check.Result) func(context.Context) check.Result {
	return func(ctx context.Context) check.Result {
		if h.Err != nil {
			return check.Skipf("the config cannot be read")
		}
		return run(ctx)
	}
}

func (h *host) cert(name string) string { return filepath.Join(h.Config.CertsDir, name) }

// told is a finding with the fix that the error itself carries, for the detail.
func told(err error) string {
	if fix := fault.FixOf(err); fix != "" {
		return err.Error() + " (" + fix + ")"
	}
	return err.Error()
}
