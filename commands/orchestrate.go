package commands

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"cis490/agent/client"
	"cis490/agent/orchestrate"
	"cis490/assets"
	"cis490/internal/config"
	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/experiment"
	"cis490/internal/ident"
	"cis490/internal/manifest"
)

func (a *app) orchestrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "orchestrate",
		Usage:     "record episodes",
		ArgsUsage: noArgs,
		Description: "Runs the commands of the experiment, one at a time per slot, samples their processes\n" +
			"and labels the samples by the events they report (docs/experiments.md). Records nothing\n" +
			"while the gate rejects this build, disk space is low or the outbox is full.\n\n" +
			"Examples:\n   cis490 orchestrate --config /etc/cis490/lab-host.toml\n" +
			"   sudo -u cis490-rec cis490 orchestrate --once --profile hash",
		Flags: []cli.Flag{
			a.configFlag(roleLabHost),
			&cli.BoolFlag{Name: "once", Usage: "record one episode and print its meta.json; exit code 1 if its verdict is not accepted"},
			&cli.StringFlag{Name: "profile", Usage: "with --once: record the profile `NAME`"},
			&cli.BoolFlag{Name: "supervise", Hidden: true, Usage: "run a slot's command, as a child of orchestrate"},
		},
		Before: func(c *cli.Context) error {
			if c.Bool("supervise") { // the arguments are the slot's command
				return nil
			}
			return rejectArgs(c)
		},
		Action: a.orchestrate,
	}
}

func (a *app) orchestrate(c *cli.Context) error {
	if c.Bool("supervise") {
		a.stopsItself()
		return orchestrate.Supervise("/proc", c.Args().Slice())
	}
	if c.IsSet("profile") && !c.Bool("once") {
		return usagef(c, "--profile needs --once")
	}
	conf, err := a.labHost(c)
	if err != nil {
		return err
	}
	o, err := a.orchestrator(c, conf)
	if err != nil {
		return err
	}
	if !c.Bool("once") {
		a.stopsItself()
		return o.Run(c.Context)
	}
	meta, err := o.Once(c.Context, c.String("profile"))
	if err != nil {
		return err
	}
	if err := a.printJSON(meta); err != nil {
		return err
	}
	if meta.Verdict != episode.Accepted {
		return verdict()
	}
	return nil
}

func (a *app) orchestrator(c *cli.Context, conf config.LabHost) (*orchestrate.Orchestrator, error) {
	log, err := a.log(c)
	if err != nil {
		return nil, err
	}
	host, err := ident.ParseHost(conf.Host)
	if err != nil {
		return nil, err
	}
	exp, err := loadExperiment(conf.Orchestrate.Experiment)
	if err != nil {
		return nil, err
	}
	gate, err := client.Anonymous(conf, a.env.Build)
	if err != nil {
		return nil, err
	}
	return orchestrate.New(orchestrate.Options{
		FS: disk.OS{}, DataDir: conf.DataDir, Host: host, Build: a.env.Build, Experiment: exp, Gate: gate,
		MaxSlots: conf.Orchestrate.MaxSlots, Rest: conf.Orchestrate.Rest.D(),
		DiskReserve: int64(conf.Orchestrate.DiskReserve), OutboxLimit: int64(conf.Orchestrate.OutboxLimit),
		Supervisor: []string{"cis490", "orchestrate", "--supervise", "--"},
		Entropy:    rand.Reader, Now: time.Now, Log: log.With("component", "orchestrate"),
		Notify: func(state string) {
			// Fails without a service manager.
			_, _ = daemon.SdNotify(false, state)
		},
	})
}

// loadExperiment reads the experiment that the config names, else the release's: the file
// beside the running binary, or the built-in one.
func loadExperiment(path string) (experiment.Experiment, error) {
	if path != "" {
		return experiment.Load(path)
	}
	self, err := os.Executable()
	if err != nil {
		return experiment.Experiment{}, fmt.Errorf("find the release's experiment: %w", err)
	}
	if inVersions(installDir, self) {
		return releaseExperiment(filepath.Dir(self))
	}
	return experiment.Parse("the release's experiment.toml", assets.Experiment())
}

// releaseExperiment reads the experiment of the release in a folder. An unreadable file is
// an error, because the built-in experiment is a different one.
func releaseExperiment(dir string) (experiment.Experiment, error) {
	path := filepath.Join(dir, manifest.ExperimentFile)
	if _, err := (disk.OS{}).Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return experiment.Parse("the release's experiment.toml", assets.Experiment())
	}
	return experiment.Load(path)
}
