package commands

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
	"cis490/internal/plot"
)

func (a *app) episodePlotCommand() *cli.Command {
	return &cli.Command{
		Name:      "plot",
		Usage:     "plot an episode's metrics by phase",
		ArgsUsage: "EPISODE|DIR|TARBALL",
		Description: "One panel per metric over one time axis, with the phases as bands.\n\n" +
			"Example:\n   sudo cis490 episode plot 01J9Z3NDEKTSV4RRFFQ69G5FAV -o episode.svg",
		Flags: append(roleFlags(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` (.svg); - is standard output", Value: "-"}),
		Action: a.episodePlot,
	}
}

func (a *app) episodePlot(c *cli.Context) (err error) {
	args, err := looseArgs(c)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return usagef(c, "want one EPISODE, DIR or TARBALL")
	}
	out := c.String("output")
	if c.IsSet("o") { // given after the episode
		out = c.String("o")
	}
	if ext := filepath.Ext(out); out != "-" && ext != ".svg" {
		return usagef(c, "%q is not an .svg file", out)
	}
	o, err := a.openEpisode(c, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	whole, err := episode.ReadOverview(o.files)
	if err != nil {
		return fault.Fix(fmt.Errorf("plot %s: %w", o.path, err), "cis490 episode verify "+o.path)
	}
	svg, err := plot.SVG(whole, plot.Style{})
	if err != nil {
		return fmt.Errorf("plot %s: %w", o.path, err)
	}
	if out == "-" {
		if a.terminal(a.env.Out) {
			return usagef(c, "will not print SVG to a terminal: use -o FILE")
		}
		_, err := a.env.Out.Write(svg)
		return err
	}
	return disk.ReplaceBytes(disk.OS{}, out, 0o644, svg)
}
