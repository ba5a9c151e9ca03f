package commands

import (
	"io"
	"log/slog"
	"time"

	"cis490/install/update"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/pg"
	"cis490/receiver/rollout"
	"cis490/receiver/s3"
	"cis490/receiver/store"
)

// installDir is where versions and the state of updates are.
const installDir = "/opt/cis490"

// rollout opens what hosts are offered. On a receiver that runs from elsewhere
// (a demo) nothing updates this machine, and nothing is reported.
func (a *app) rollout(
	conf config.Receiver, back receiver.Backend, known func() (map[ident.Host]rollout.Report, error), log *slog.Logger,
) *rollout.Controller {
	lease := func() (io.Closer, error) { return back.Lease(receiver.Rolling) }
	if back.Peers == nil {
		lease = nil
	}
	return rollout.Open(rollout.Options{
		Lease: lease, Releases: back.Releases, SilentAfter: conf.Rollout.CanaryHeard.D(), Build: a.env.Build,
		Own:   func() (*wire.Update, error) { return update.ReadPublic(disk.OS{}, installDir) },
		Known: known, Now: time.Now, Clock: clock.Read(disk.OS{}), Log: log.With("component", "rollout"),
	})
}

// knownReports returns a function that reads the hosts' last reports before this start of serve.
func knownReports(back receiver.Backend) func() (map[ident.Host]rollout.Report, error) {
	return func() (map[ident.Host]rollout.Report, error) {
		all := map[ident.Host]rollout.Report{}
		book, err := contacts.Of(back, clock.Read(disk.OS{})())
		for h, c := range book.Hosts {
			all[h] = rollout.Report{At: c.LastPing, OS: c.OS, Arch: c.Arch, Update: c.Update, Ailing: len(c.Failing) > 0, Leaving: c.Leaving}
		}
		return all, err
	}
}

// backend returns the receiver's state on a file system, as the config at a path has it.
func backend(conf config.Receiver, fsys disk.FS, path string, log *slog.Logger) receiver.Backend {
	o := local.Options{
		FS: fsys, Dir: conf.DataDir, Known: store.KnownDir(path), Now: time.Now,
		Reserve: int64(conf.Limits.DiskReserve), Log: log.With("component", "store"),
	}
	if path == config.ReceiverPath {
		o.Spare = fleet.SpareDir
	}
	if conf.Store.Backend != config.StoreS3 {
		return local.Open(o)
	}
	base := local.Open
	if conf.Ledger.Backend == config.LedgerPostgres {
		base = func(o local.Options) receiver.Backend { return ledger(conf, local.Open(o), fsys, log) }
	}
	return s3.Configured(base, o, conf, log.With("component", "store"))
}

// ledger returns a backend whose rows and documents are in the config's database.
func ledger(conf config.Receiver, base receiver.Backend, fsys disk.FS, log *slog.Logger) receiver.Backend {
	var back receiver.Backend
	back = pg.Open(pg.Options{
		Base: base, FS: fsys, Dir: conf.DataDir, URLFile: conf.Ledger.URLFile, Pooler: conf.Ledger.Pooler,
		Copies: func() (bool, error) { return copiesOf(conf, back.Peers)() }, Name: conf.Name, Log: log.With("component", "ledger"),
	})
	return back
}

// copiesOf returns a function that reports whether another receiver has the authority and the
// releases.
func copiesOf(conf config.Receiver, peers receiver.Peers) func() (bool, error) {
	return func() (bool, error) {
		if !conf.Authority.Shared() {
			return conf.Authority.Elsewhere, nil
		}
		has, err := cluster.Has(peers, receiver.Publishing)
		return !has, err
	}
}

// stored returns the state of the receiver with a config file, for reading.
func stored(conf config.Receiver, path string) receiver.Backend {
	return backend(conf, disk.OS{}, path, slog.New(slog.DiscardHandler))
}
