package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"cis490/agent/checks"
	"cis490/agent/client"
	"cis490/agent/ship"
	"cis490/agent/spool"
	"cis490/install/update"
	"cis490/internal/check"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/machine"
	"cis490/internal/wire"
)

func (a *app) shipCommand() *cli.Command {
	return &cli.Command{
		Name:      "ship",
		Usage:     "run the outbox daemon, which sends complete episodes to the receiver",
		ArgsUsage: noArgs,
		Description: "Packs and sends the episodes in episodes/, and keeps each until the receiver's receipt\n" +
			"is stored durably. It waits until this host is enrolled.\n\n" +
			"Exit codes of --once: 0 nothing is left, 75 something is left, 69 the receiver is unreachable.\n\n" +
			"Examples:\n   cis490 ship --config /etc/cis490/lab-host.toml\n" +
			"   sudo -u cis490 cis490 ship --ping",
		Flags: []cli.Flag{
			a.configFlag(roleLabHost),
			&cli.BoolFlag{Name: "once", Usage: "ship waiting episodes, then exit"},
			&cli.BoolFlag{Name: "ping", Usage: "only test the connection to the receiver and the credentials"},
			jsonFlag(),
		},
		Action: a.ship,
	}
}

func (a *app) ship(c *cli.Context) error {
	if c.Bool("once") && c.Bool("ping") {
		return usagef(c, "--once and --ping are mutually exclusive")
	}
	if c.Bool("json") && !c.Bool("ping") {
		return usagef(c, "--json needs --ping")
	}
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	cl, err := client.New(conf, a.env.Build)
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.Bool("ping") {
		return a.pingReceiver(c, conf, cl)
	}
	return a.shipSpool(c, conf, cl)
}

// openSpool opens the host's spool as its owner, with exclusive access until the returned
// function is called.
func openSpool(dir string, log *slog.Logger) (*spool.Spool, func() error, error) {
	if err := becomeOwner(dir, roleLabHost); err != nil {
		return nil, nil, err
	}
	held, err := spool.Lock(disk.OS{}, dir)
	if err != nil {
		return nil, nil, err
	}
	sp, err := spool.Open(spool.Options{FS: disk.OS{}, Dir: dir, Now: time.Now, Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	return sp, func() error { return errors.Join(sp.Close(), held.Close()) }, nil
}

// shipSpool runs the shipper on the host's spool, with exclusive access.
func (a *app) shipSpool(c *cli.Context, conf config.LabHost, cl *client.Client) (err error) {
	log, err := a.log(c)
	if err != nil {
		return err
	}
	sp, closeSpool, err := openSpool(conf.DataDir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeSpool()) }()
	found, err := sp.Recover()
	if err != nil { // the next start tries the rest again
		log.Error("spool not completely recovered", "err", err, "fix", "on the lab host: sudo cis490 doctor")
	}
	state, err := spool.LoadState(disk.OS{}, conf.DataDir)
	if err != nil {
		log.Warn("starting without the previous run's state", "err", err)
	}
	local, _ := a.labHostChecks(roleConfig{roleLabHost, c.String("config")})
	watchdog, _ := daemon.SdWatchdogEnabled(false) // 0 without a service manager
	s, err := ship.New(ship.Options{
		Host: cl.Host(), Config: conf.Ship, Build: a.env.Build, BootID: a.bootID(), Spool: sp, State: state,
		NewPacker: func() (spool.Packer, error) { return episode.NewPacker() },
		Receiver:  cl, Credentials: cl, Logger: log, Now: time.Now,
		Watch:   ship.Watch(sp.EpisodesDir()),
		Failing: failing(local),
		Update:  updates, Hardware: hardware(),
		Notify: func(state string) {
			// Fails without a service manager.
			_, _ = daemon.SdNotify(false, state)
		},
		Watchdog: watchdog,
		// Without an answer from systemd, only the program restarts.
		Leaving: func(ctx context.Context) bool {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			state, _ := machine.Systemd{}.State(ctx)
			return state == "stopping"
		},
		Sleeps: machine.Sleeps,
	}, found.Interrupted)
	if err != nil {
		return err
	}
	if !c.Bool("once") {
		a.stopsItself()
		return s.Run(c.Context)
	}
	return a.shipOnce(c.Context, s)
}

// failing returns a function that runs the local hard checks, for pings.
func failing(o checks.Options) func(context.Context, wire.Queue) []string {
	return func(ctx context.Context, q wire.Queue) []string {
		o.Queue = func() (wire.Queue, error) { return q, nil }
		hard := slices.DeleteFunc(checks.Local(o), func(c check.Check) bool { return c.Severity != check.Hard })
		return check.Failing(check.Run(ctx, hard))
	}
}

func (a *app) shipOnce(ctx context.Context, s *ship.Shipper) error {
	done := make(chan error, 1)
	start, whole := time.Now(), s.Moved().Left.Bytes
	go func() { done <- s.Once(ctx) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	watched := a.terminal(a.env.Err)
	for {
		select {
		case <-tick.C:
			if watched {
				controlf(a.env.Err, clearLine+"%s", progress(s.Moved(), time.Since(start), whole))
			}
		case err := <-done:
			if watched {
				controlf(a.env.Err, clearLine)
			}
			m := s.Moved()
			a.printf("%d shipped, %d quarantined, %d left\n", m.Episodes, m.SetAside, m.Left.Waiting+m.Left.Held)
			return onceError(err)
		}
	}
}

// progress returns the progress line: rate and remaining work. It counts sizes on disk,
// because episodes differ a thousandfold in size.
func progress(m ship.Moved, took time.Duration, whole int64) string {
	rate := float64(m.Bytes) / took.Seconds()
	line := fmt.Sprintf("%d shipped, %s at %s/s, %d left",
		m.Episodes, humanize.IBytes(uint64(m.Bytes)), humanize.IBytes(uint64(rate)), m.Left.Waiting)
	if left := whole - m.Whole; m.Whole > 0 && left > 0 {
		eta := time.Duration(float64(took) / float64(m.Whole) * float64(left))
		line += fmt.Sprintf(", about %s to go", max(eta, time.Second).Round(time.Second))
	}
	return line
}

func onceError(err error) error {
	if err == nil {
		return nil
	}
	left, ok := errors.AsType[*ship.LeftError](err)
	if !ok {
		return ship.Unreachable(err)
	}
	if left.Err != nil && ship.ActionOf(left.Err) == wire.Network {
		return ship.Unreachable(err)
	}
	return fault.Exit(fault.Fix(err, "nothing: the shipper retries; to test the receiver: cis490 ship --ping"), fault.TempFail)
}

func (a *app) pingReceiver(c *cli.Context, conf config.LabHost, cl *client.Client) error {
	q, err := checks.Figures(disk.OS{}, conf.DataDir)
	if err != nil {
		a.errorf("warning: cannot read the queue: %v", err)
	}
	start := time.Now()
	pong, err := cl.Ping(c.Context, wire.Ping{
		Version: a.env.Build.Version, Commit: a.env.Build.Commit, BootID: a.bootID(), Clock: start.UTC(), Queue: q,
		OS: a.env.Build.OS, Arch: a.env.Build.Arch, Update: updates(),
	})
	if err != nil {
		return ship.Unreachable(fmt.Errorf("ping %s: %w", conf.Receiver.URL, err))
	}
	if c.Bool("json") {
		return a.printJSON(pong)
	}
	took := time.Since(start).Round(time.Millisecond)
	a.printf("%s answered in %s\n", conf.Receiver.URL, took)
	a.printf("clock      %s off\n", time.Since(pong.ServerTime).Abs().Round(time.Second))
	a.printf("store      %s\n", check.Sanitize(pong.StoreID, 80))
	if pong.Gate.Accepted {
		a.printf("gate       accepts this build\n")
	} else {
		a.printf("gate       rejects this build: %s\n", check.Sanitize(pong.Gate.Reason, 200))
	}
	a.printf("known as   %s\n", cl.Host())
	return nil
}

// bootID identifies a boot, and so distinguishes two machines with one name, in systemd's
// form without dashes. The units pass it: a service's /proc may lack it, or have that of the
// kernel where a container boots. Empty means unknown.
func (a *app) bootID() string {
	id := a.env.Getenv("CIS490_BOOT_ID")
	if b, err := disk.ReadFile(disk.OS{}, "/proc/sys/kernel/random/boot_id", disk.Small); id == "" && err == nil {
		id = string(b)
	}
	return strings.ReplaceAll(strings.TrimSpace(id), "-", "")
}

// updates returns this machine's update status, for pings.
func updates() *wire.Update {
	u, err := update.ReadPublic(disk.OS{}, installDir)
	if err != nil {
		return nil // autoupdate rewrites the file
	}
	return u
}

// hardware describes this machine. The shipper may not use /dev/kvm, so it looks whether the
// kernel has the device.
func hardware() *wire.Hardware {
	h := machine.ReadHardware("/")
	_, err := disk.OS{}.Stat("/sys/devices/virtual/misc/kvm")
	h.KVM = err == nil
	return &h
}
