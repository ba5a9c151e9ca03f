package commands

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	labchecks "cis490/agent/checks"
	"cis490/agent/client"
	"cis490/agent/enroll"
	"cis490/assets"
	"cis490/install"
	"cis490/install/update"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/fault"
	"cis490/internal/ident"
	"cis490/internal/manifest"
	"cis490/internal/pki"
	"cis490/internal/wire"
	"cis490/receiver/authority"
	"cis490/receiver/local"
)

func (a *app) autoupdateCommand() *cli.Command {
	return &cli.Command{
		Name:      "autoupdate",
		Usage:     "keep this machine on the offered release and repair its installation",
		ArgsUsage: noArgs,
		Description: "The timer runs it every few minutes; each run does one short step. A release that a\n" +
			"trusted key signed is fetched and put on trial; one that crashes, fails its checks or\n" +
			"ships no episode is rolled back with its units. When there is nothing new, it repairs\n" +
			"differences from the installed version. It never changes drop-ins, masked units and\n" +
			"the config. See docs/updates.md.\n\n" +
			"Examples:\n   sudo cis490 autoupdate\n   sudo cis490 autoupdate --check --json",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "check", Usage: "print what a run would do and what differs, without changes; exit code 1 if there is work"},
			jsonFlag(),
		},
		Action: a.autoupdate,
	}
}

func (a *app) autoupdate(c *cli.Context) error {
	if err := requireRoot("autoupdate"); err != nil {
		return err
	}
	if err := install.Supported(); err != nil {
		return err
	}
	log, err := a.log(c)
	if err != nil {
		return err
	}
	if _, err := installedBinary(); err != nil {
		return err
	}
	installed := install.Roles("")
	if len(installed) == 0 {
		return fault.Exit(fault.Fix(errors.New("this machine has no role yet"),
			"sudo ./cis490 install lab-host --join -   # or: install receiver"), fault.Config)
	}
	lock, err := install.Hold(c.Context, disk.OS{}, "")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // releases the lock
	u, err := update.New(a.updateOptions(installed, lock, log.With("component", "autoupdate")))
	if err != nil {
		return err
	}
	if c.Bool("check") {
		return a.checkUpdate(c, u, installed)
	}
	r, err := u.Run(c.Context)
	if err != nil {
		return err
	}
	if err := a.printUpdate(c, r); err != nil {
		return err
	}
	if r.Did == update.RolledBack {
		return verdict()
	}
	return nil
}

// updateOptions returns the options of this machine's update. It works with an unreadable
// config, because the last good one is saved.
func (a *app) updateOptions(installed []install.Role, lock *os.File, log *slog.Logger) update.Options {
	sys := &update.System{Lock: lock, BootID: a.bootID()}
	o := update.Options{
		FS: disk.OS{}, Dir: installDir, Command: "/usr/local/bin/cis490", Machine: sys,
		OS: a.env.Build.OS, Arch: a.env.Build.Arch, Config: config.DefaultUpdate(), Now: time.Now, Pause: pause, Log: log,
	}
	for _, role := range installed {
		sys.Roles = append(sys.Roles, string(role))
		rx, _, _ := config.LoadReceiver(a.configPath(roleReceiver)) // with an unreadable one, it has an authority
		sys.Daemons = append(sys.Daemons, unitsOf(role, rx.Authority.Elsewhere).Daemons...)
		if role == install.LabHost {
			a.updateLabHost(&o, sys, log)
		}
	}
	for _, role := range installed { // on a machine with both roles, the receiver's folder takes precedence
		if role == install.Receiver {
			a.updateReceiver(&o, log)
		}
	}
	return o
}

func (a *app) updateLabHost(o *update.Options, sys *update.System, log *slog.Logger) {
	conf, err := rememberedLabHost(installDir)
	if err != nil {
		log.Error("cannot read the config, so the source of releases is unknown", "path", config.LabHostPath, "err", err)
		return
	}
	o.Config = conf.Update
	o.Keys = keysFrom(filepath.Join(conf.CertsDir, enroll.ReleaseKeysFile))
	o.Source = a.offers(conf, log)
	sys.Queue = func() (wire.Queue, error) { return labchecks.Figures(disk.OS{}, conf.DataDir) }
	o.Gated = func(ctx context.Context) bool { return a.gated(ctx, conf) }
	sys.Reach = func(ctx context.Context) error { return a.probe(ctx, conf, conf.CertsDir) }
}

// gated reports whether the gate rejects this build's recordings. It always does without a
// commit.
func (a *app) gated(ctx context.Context, conf config.LabHost) bool {
	if a.env.Build.Commit == "" {
		return true
	}
	cl, err := client.Anonymous(conf, a.env.Build)
	if err != nil {
		return false
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := cl.Gate(ctx, a.env.Build.Commit)
	return err == nil && !v.Accepted
}

// offers returns the source of a lab host's releases.
func (a *app) offers(conf config.LabHost, log *slog.Logger) *update.Remote {
	return &update.Remote{
		URL: conf.Receiver.URL, Host: ident.Host(conf.Host), OS: a.env.Build.OS, Arch: a.env.Build.Arch,
		Agent: "cis490/" + a.env.Build.Version,
		Roots: func() (*x509.CertPool, error) {
			return pki.NewBundle(disk.OS{}, filepath.Join(conf.CertsDir, client.CAFile)).Get()
		},
		Idle: conf.Ship.IdleTimeout.D(), Log: log,
	}
}

func (a *app) updateReceiver(o *update.Options, log *slog.Logger) {
	conf, _, err := config.LoadReceiver(config.ReceiverPath)
	if err != nil {
		log.Error("cannot read the config; using the default folder of releases", "path", config.ReceiverPath, "err", err)
		conf = config.DefaultReceiver()
	}
	o.Config = conf.Update
	o.Keys = keysFrom(filepath.Join(conf.Authority.Dir, authority.ReleaseKeys))
	o.Source = update.Folder{FS: disk.OS{}, Dir: local.ReleasesDir(conf.DataDir), OS: o.OS, Arch: o.Arch}
}

// rememberedLabHost reads the config and saves a copy of a valid one. It returns the copy
// if the config is invalid, so that a mistake or a newer version's config cannot block the
// update that fixes it.
func rememberedLabHost(dir string) (config.LabHost, error) {
	last := filepath.Join(dir, "state", "lab-host.toml")
	conf, _, err := config.LoadLabHost(config.LabHostPath)
	if err != nil {
		conf, _, lerr := config.LoadLabHost(last)
		if lerr != nil {
			return conf, err
		}
		return conf, nil
	}
	content, err := disk.ReadFile(disk.OS{}, config.LabHostPath, disk.Small)
	if have, herr := disk.ReadFile(disk.OS{}, last, disk.Small); err == nil && (herr != nil || string(have) != string(content)) {
		_ = disk.ReplaceBytes(disk.OS{}, last, 0o600, content) // on a full disk the older copy stays
	}
	return conf, nil
}

// keysFrom reads the release keys that enrollment stored, or else the built-in ones.
func keysFrom(path string) func() (string, error) {
	return func() (string, error) {
		b, err := disk.ReadFile(disk.OS{}, path, 1<<16)
		if errors.Is(err, fs.ErrNotExist) {
			return string(assets.ReleaseKeys()), nil
		}
		if err != nil {
			return "", err
		}
		if _, err := manifest.ParseKeyring(string(b)); err != nil {
			return "", fault.Fix(fmt.Errorf("%s: %w", path, err), "sudo rm "+path+" && sudo cis490 cert-fetch --renew")
		}
		return string(b), nil
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// checkUpdate prints what a run would do, and what differs from the installed version.
func (a *app) checkUpdate(c *cli.Context, u *update.Updater, installed []install.Role) error {
	r, err := u.Check(c.Context)
	if err != nil {
		return err
	}
	drifted := 0
	if r.Did == update.Nothing {
		out := a.env.Out
		if c.Bool("json") {
			out = a.env.Err
		}
		for _, role := range installed {
			plan, err := install.New(install.Options{
				Role: role, Binary: installDir + "/current/cis490", Build: a.env.Build, Out: out, Manager: install.Systemd(), Update: true,
			})
			if err != nil {
				return err
			}
			n, err := plan.Drift(c.Context)
			if err != nil {
				return err
			}
			drifted += n
		}
	}
	if err := a.printUpdate(c, r); err != nil {
		return err
	}
	if drifted > 0 || r.Did == update.Began {
		return verdict()
	}
	return nil
}

func (a *app) printUpdate(c *cli.Context, r update.Result) error {
	if c.Bool("json") {
		return a.printJSON(r)
	}
	line := string(r.Did)
	if r.Version != "" {
		line += ", version " + r.Version
	}
	if r.Note != "" {
		line += ": " + r.Note
	}
	a.printf("%s\n", line)
	stopped := false
	for _, change := range r.Changes {
		a.printf("repaired %s\n", change)
		stopped = stopped || strings.HasSuffix(change, ", which was not running")
	}
	if stopped {
		a.printf("to keep a service stopped: sudo systemctl mask --now UNIT\n")
	}
	if t := r.Status.Trial; t != nil {
		observed := time.Duration(t.Observed * float64(time.Second)).Round(time.Second)
		a.printf("version %s is on trial: %s of %s\n", t.Version, observed, time.Duration(t.Needs*float64(time.Second)))
	}
	return nil
}

// installedBinary returns the path of this binary, which must be an installed one, because
// another copy would install itself.
func installedBinary() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	if path, err = (disk.OS{}).Real(path); err != nil {
		return "", err
	}
	if !inVersions(installDir, path) {
		return "", fault.Exit(fault.Fix(fmt.Errorf("%s is not an installed binary", path), "sudo /usr/local/bin/cis490 autoupdate"), fault.Usage)
	}
	return path, nil
}

// inVersions reports whether a program, by its real path, is a version that install put
// below dir, which may be a symlink, or be below one.
func inVersions(dir, program string) bool {
	if real, err := (disk.OS{}).Real(dir); err == nil {
		dir = real
	}
	return strings.HasPrefix(program, dir+"/versions/")
}
