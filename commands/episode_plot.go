package commands

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/go-analyze/charts"
	"github.com/urfave/cli/v2"

	"cis490/internal/disk"
	"cis490/internal/episode"
	"cis490/internal/fault"
)

// The size of a plot in pixels, and how many points a line has.
const (
	plotWidth  = 1000
	panelTop   = 60 // for the title and the legend
	panel      = 170
	plotPoints = 250
)

func (a *app) episodePlotCommand() *cli.Command {
	return &cli.Command{
		Name:      "plot",
		Usage:     "draw an episode's figures over its phases",
		ArgsUsage: "EPISODE|DIR|TARBALL",
		Description: "One panel for each figure, one colour for each phase.\n\n" +
			"Example:\n   sudo cis490 episode plot 01J9Z3NDEKTSV4RRFFQ69G5FAV -o episode.svg",
		Flags: append(roleFlags(),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write `FILE`, an .svg; - is standard output", Value: "-"}),
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
		return usagef(c, "%q is no .svg file", out)
	}
	o, err := openEpisode(c, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	whole, err := episode.ReadOverview(o.files)
	if err != nil {
		return fault.Fix(fmt.Errorf("plot %s: %w", o.path, err), "cis490 episode verify "+o.path)
	}
	svg, err := plot(whole)
	if err != nil {
		return fmt.Errorf("plot %s: %w", o.path, err)
	}
	if out == "-" {
		if a.terminal(a.env.Out) {
			return usagef(c, "an SVG is not for a terminal: name a file with -o")
		}
		_, err := a.env.Out.Write(svg)
		return err
	}
	return disk.ReplaceBytes(disk.OS{}, out, 0o644, svg)
}

// plot draws the panels below each other. A phase is a colour: each has a line of
// its own that has no values outside of it.
func plot(o episode.Overview) ([]byte, error) {
	if len(o.Curves) == 0 {
		return nil, errors.New("no source has rows to draw")
	}
	height := panelTop + panel*len(o.Curves)
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: plotWidth, Height: height})
	p.FilledRect(0, 0, plotWidth, height, charts.ColorWhite, charts.ColorWhite, 0)
	names := make([]string, len(o.Phases))
	for i, phase := range o.Phases {
		names[i] = phase.Name
	}
	for i, curve := range o.Curves {
		top := panelTop + i*panel
		if i == 0 {
			top = 0
		}
		child := p.Child(charts.PainterBoxOption(charts.NewBox(0, top, plotWidth, panelTop+(i+1)*panel)))
		opt := panelOf(o, curve, names)
		if i == 0 {
			opt.Title.Text = fmt.Sprintf("%s  %s  %s on %s: %s", o.Meta.Episode, o.Meta.Start.UTC().Format("2006-01-02 15:04"), o.Meta.Profile, o.Meta.Host, o.Meta.Verdict)
			opt.Title.FontStyle.FontSize = 12
			opt.Legend = charts.LegendOption{SeriesNames: names, Offset: charts.OffsetStr{Left: charts.PositionRight}, Symbol: charts.SymbolSquare}
		}
		if err := child.LineChart(opt); err != nil {
			return nil, err
		}
	}
	return p.Bytes()
}

func panelOf(o episode.Overview, curve episode.Curve, names []string) charts.LineChartOption {
	n := min(plotPoints, max(2, len(curve.Points)))
	lines := make([][]float64, len(names))
	for i := range lines {
		lines[i] = make([]float64, n)
		for k := range lines[i] {
			lines[i][k] = charts.GetNullValue()
		}
	}
	labels := make([]string, n)
	for k, v := range curve.Buckets(n, o.End) {
		labels[k] = fmt.Sprintf("%.1f s", (float64(k)+0.5)/float64(n)*float64(o.End)/1e9)
		phase := o.PhaseAt(k, n)
		if phase < 0 || math.IsNaN(v) {
			continue
		}
		lines[phase][k] = v
	}
	opt := charts.NewLineChartOptionWithData(lines)
	for i := range opt.SeriesList {
		opt.SeriesList[i].Name = names[i]
	}
	opt.Legend.Show = new(false)
	opt.Padding = charts.NewBox(10, 10, 20, 5)
	opt.Symbol.Shape = charts.SymbolNone
	opt.LineStrokeWidth = 1.5
	opt.XAxis.Labels, opt.XAxis.LabelCount, opt.XAxis.BoundaryGap = labels, 11, new(false)
	opt.YAxis = []charts.YAxisOption{{
		Title: curve.Name, Min: new(0.0), LabelCount: 4,
		ValueFormatter: func(v float64) string { return figure(curve.Unit, v) },
	}}
	return opt
}
