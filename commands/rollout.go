package commands

import (
	"log/slog"
	"path/filepath"
	"time"

	"cis490/install/update"
	"cis490/internal/clock"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/release"
)

// installDir is where versions and the state of updates are.
const installDir = "/opt/cis490"

// rollout opens what hosts are offered. On a receiver that runs from elsewhere
// (a demo) nothing keeps this machine up to date, and nothing is said of it.
func (a *app) rollout(conf config.Receiver, log *slog.Logger) *release.Rollout {
	return release.Open(release.Options{
		FS: disk.OS{}, Dir: filepath.Join(conf.DataDir, "releases"), Heard: conf.Rollout.CanaryHeard.D(), Build: a.env.Build,
		Own:   func() (*wire.Update, error) { return update.ReadPublic(disk.OS{}, installDir) },
		Known: func() (map[ident.Host]release.Told, error) { return told(conf) },
		Now:   time.Now, Clock: clock.Read(disk.OS{}), Log: log.With("component", "rollout"),
	})
}

// told returns what hosts said before this start of serve.
func told(conf config.Receiver) (map[ident.Host]release.Told, error) {
	all := map[ident.Host]release.Told{}
	book, err := contacts.Read(disk.OS{}, conf.DataDir)
	book.Bridge(clock.Read(disk.OS{})())
	for h, c := range book.Hosts {
		all[h] = release.Told{At: c.LastPing, OS: c.OS, Arch: c.Arch, Update: c.Update, Ailing: len(c.Failing) > 0, Leaving: c.Leaving}
	}
	return all, err
}
