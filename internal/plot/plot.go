// Package plot draws an episode's metrics by phase as SVG.
//
// It works in memory. It escapes and truncates the episode's text, and rejects what no
// recording has: hundreds of phases, or no rows.
package plot

import (
	"errors"
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
	"github.com/go-analyze/charts"

	"cis490/internal/check"
	"cis490/internal/episode"
)

// The size of a plot in pixels, and the number of points of a line.
const (
	width     = 1000
	panelTop  = 60 // for the title and the legend
	panel     = 170
	points    = 250
	maxPhases = 60
)

// SVG draws one panel per metric, for a light or a dark page. Each phase has its own
// colour: a separate line without values outside the phase.
func SVG(o episode.Overview, dark bool) ([]byte, error) {
	if len(o.Curves) == 0 {
		return nil, errors.New("no rows to draw")
	}
	if len(o.Phases) > maxPhases {
		return nil, fmt.Errorf("%d phases are too many to draw", len(o.Phases))
	}
	theme := charts.GetTheme(charts.ThemeLight)
	if dark {
		theme = charts.GetTheme(charts.ThemeDark).WithBackgroundColor(charts.ColorFromHex("#171b21"))
	}
	height := panelTop + panel*len(o.Curves)
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: width, Height: height})
	p.FilledRect(0, 0, width, height, theme.GetBackgroundColor(), theme.GetBackgroundColor(), 0)
	names := make([]string, len(o.Phases))
	for i, phase := range o.Phases {
		names[i] = check.Sanitize(phase.Name, 40)
	}
	for i, curve := range o.Curves {
		top := panelTop + i*panel
		if i == 0 {
			top = 0
		}
		child := p.Child(charts.PainterBoxOption(charts.NewBox(0, top, width, panelTop+(i+1)*panel)))
		opt := panelOf(o, curve, names)
		opt.Theme = theme
		if i == 0 {
			m := o.Meta
			title := fmt.Sprintf("%s  %s  %s on %s: %s", m.Episode, m.Start.UTC().Format("2006-01-02 15:04"), m.Profile, m.Host, m.Verdict)
			opt.Title.Text = check.Sanitize(title, 160)
			opt.Title.FontStyle.FontSize = 12
			opt.Legend = charts.LegendOption{
				SeriesNames: names, Theme: theme, Offset: charts.OffsetStr{Left: charts.PositionRight}, Symbol: charts.SymbolSquare,
			}
		}
		if err := child.LineChart(opt); err != nil {
			return nil, err
		}
	}
	return p.Bytes()
}

func panelOf(o episode.Overview, curve episode.Curve, names []string) charts.LineChartOption {
	n := min(points, max(2, len(curve.Points)))
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
	opt.XAxis.Labels, opt.XAxis.LabelCount, opt.XAxis.BoundaryGap = labels, 9, new(false)
	opt.YAxis = []charts.YAxisOption{{
		Title: curve.Name, Min: new(0.0), LabelCount: 4,
		ValueFormatter: func(v float64) string { return Figure(curve.Unit, v) },
	}}
	return opt
}

// Figure formats a value of a curve.
func Figure(unit string, v float64) string {
	switch unit {
	case episode.UnitBytes:
		return humanize.IBytes(uint64(math.Max(v, 0)))
	case episode.UnitRate:
		return humanize.IBytes(uint64(math.Max(v, 0))) + "/s"
	case episode.UnitPercent:
		return fmt.Sprintf("%.0f %%", v)
	}
	return fmt.Sprintf("%.3g", v)
}
