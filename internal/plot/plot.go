// Package plot draws an episode's metrics over time as SVG.
//
// It works in memory. It escapes and truncates the episode's text, and rejects what no
// recording has: hundreds of phases, or no rows.
package plot

import (
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"cis490/internal/check"
	"cis490/internal/episode"
	"cis490/internal/plain"
)

// Sizes in pixels, and the number of points that a line has at most.
const (
	wide, narrow = 1000, 390
	panel        = 120 // height of a curve
	between      = 34  // from one curve to the next
	fontSize     = 13
	lineHeight   = 20
	edge         = 12
	strip        = 16 // height of the bar with the phases
	maxPhases    = 60
	maxLegend    = 12
	maxPoints    = 800
)

// Style is how a plot looks.
type Style struct {
	Dark   bool // for a dark page
	Narrow bool // 390 instead of 1000 pixels wide, for a phone
}

// SVG draws one panel per curve over one time axis. All panels begin at the same left
// edge. Bands behind the curves show the phases.
func SVG(o episode.Overview, style Style) ([]byte, error) {
	if len(o.Curves) == 0 {
		return nil, errors.New("no rows to draw")
	}
	if len(o.Phases) > maxPhases {
		return nil, fmt.Errorf("%d phases are too many to draw", len(o.Phases))
	}
	d := newDrawing(o, style)
	y := d.head()
	d.phases(y)
	y += strip + lineHeight
	for i, c := range o.Curves {
		d.panel(c, d.axes[i], y)
		y += panel + between
	}
	d.timeLabels(y - between + lineHeight)
	d.Height, d.ViewBox = y, fmt.Sprintf("0 0 %d %d", d.Width, y)
	return xml.Marshal(d.svg)
}

// drawing is an SVG in the making, and where its parts are.
type drawing struct {
	svg
	o           episode.Overview
	theme       theme
	colors      map[string]string // of phases, by name
	time        axis
	axes        []axis // of the curves
	left, right int    // edges of all panels
}

func newDrawing(o episode.Overview, style Style) *drawing {
	d := &drawing{o: o, theme: themeOf(style.Dark), colors: map[string]string{}}
	d.svg = svg{NS: "http://www.w3.org/2000/svg", Width: wide, Font: "system-ui, 'DejaVu Sans', sans-serif", Size: fontSize}
	labels := 9
	if style.Narrow {
		d.Width, labels = narrow, 6
	}
	d.time = timeAxis(o.End, labels)
	longest := 0
	for _, c := range o.Curves {
		a := valueAxis(c)
		d.axes = append(d.axes, a)
		for _, t := range a.ticks {
			longest = max(longest, textWidth(t.label))
		}
	}
	d.left, d.right = edge+longest+6, d.Width-edge
	for _, p := range o.Phases {
		if _, ok := d.colors[p.Name]; !ok {
			d.colors[p.Name] = d.theme.phases[len(d.colors)%len(d.theme.phases)]
		}
	}
	return d
}

// textWidth estimates the width of a text in pixels, generously.
func textWidth(s string) int { return utf8.RuneCountInString(s) * fontSize * 6 / 10 }

// x returns the place of a moment.
func (d *drawing) x(mono float64) float64 {
	return float64(d.left) + d.time.place(mono)*float64(d.right-d.left)
}

// head draws the background, the title and the legend. It returns where they end.
func (d *drawing) head() int {
	d.add(shape{XMLName: name("rect"), Width: "100%", Height: "100%", Fill: d.theme.back})
	m := d.o.Meta
	y := edge + fontSize
	title := []string{
		fmt.Sprintf("%s on %s", m.Episode, m.Host),
		fmt.Sprintf("%s, %s: %s", plain.Time(m.Start), check.Sanitize(m.Profile, 60), m.Verdict),
	}
	if d.Width == wide {
		title = []string{strings.Join(title, ", ")}
	}
	for _, line := range title {
		d.text("title", edge, y, check.Sanitize(line, (d.Width-2*edge)*10/(fontSize*6)), "start", d.theme.text)
		y += lineHeight
	}
	x, seen := edge, map[string]bool{}
	for _, p := range d.o.Phases {
		if seen[p.Name] {
			continue
		}
		label := check.Sanitize(p.Name, 30)
		if len(seen) == maxLegend {
			label = fmt.Sprintf("and %d more", len(d.colors)-maxLegend)
		}
		if next := x + 18 + textWidth(label); next > d.Width-edge && x > edge {
			x, y = edge, y+lineHeight
		}
		if len(seen) == maxLegend {
			d.text("legend", x, y, label, "start", d.theme.text)
			break
		}
		seen[p.Name] = true
		d.rect("key", float64(x), float64(y-11), 12, 12, d.colors[p.Name])
		d.text("legend", x+18, y, label, "start", d.theme.text)
		x += 18 + textWidth(label) + 16
	}
	return y + lineHeight/2
}

// phases draws the bar of phases and, behind all curves, their bands.
func (d *drawing) phases(y int) {
	bottom := y + strip + lineHeight + len(d.o.Curves)*(panel+between) - between
	for _, p := range d.o.Phases {
		x, end := d.x(float64(p.Begin)), d.x(float64(p.End))
		d.rect("phase", x, float64(y), max(0, end-x), strip, d.colors[p.Name])
		d.rect("band", x, float64(y+strip), max(0, end-x), float64(bottom-y-strip), d.colors[p.Name])
		if label := check.Sanitize(p.Name, 30); float64(textWidth(label)+6) < end-x {
			d.text("phase-name", int(x+end)/2, y+strip-4, label, "middle", d.theme.back)
		}
	}
}

func (d *drawing) panel(c episode.Curve, a axis, y int) {
	bottom := float64(y + panel)
	place := func(v float64) float64 { return bottom - a.place(v)*panel }
	d.text("name", d.left, y-6, c.Name, "start", d.theme.text)
	for _, t := range a.ticks {
		at := place(t.value)
		d.line("grid", float64(d.left), at, float64(d.right), at, d.theme.grid)
		d.text("tick-y", d.left-6, int(at)+4, t.label, "end", d.theme.soft)
	}
	for _, t := range d.time.ticks {
		d.line("grid", d.x(t.value), float64(y), d.x(t.value), bottom, d.theme.grid)
	}
	d.add(shape{
		XMLName: name("path"), Class: "line", D: d.path(c, place), Stroke: d.theme.line, Fill: "none", StrokeWidth: "1.6", Cap: "round",
	})
}

// path joins the points of a curve, except across gaps in which its source wrote nothing.
func (d *drawing) path(c episode.Curve, place func(float64) float64) string {
	points := c.Points
	if len(points) > maxPoints {
		points = nil
		for i, v := range c.Buckets(maxPoints, d.o.End) {
			points = append(points, episode.Point{Mono: int64((float64(i) + 0.5) / maxPoints * float64(d.o.End)), Value: v})
		}
	}
	gap := math.Inf(1)
	if n := len(points); n > 1 {
		gap = 3 * float64(points[n-1].Mono-points[0].Mono) / float64(n-1)
	}
	var b strings.Builder
	joined, last := false, 0.0
	for _, p := range points {
		at := float64(p.Mono)
		switch {
		case math.IsNaN(p.Value):
			joined = false
			continue
		case joined && at-last <= gap:
			fmt.Fprintf(&b, "L%.1f %.1f", d.x(at), place(p.Value))
		default: // a point alone is a dot
			fmt.Fprintf(&b, "M%.1f %.1fh0", d.x(at), place(p.Value))
		}
		joined, last = true, at
	}
	return b.String()
}

func (d *drawing) timeLabels(y int) {
	for _, t := range d.time.ticks {
		anchor, x := "middle", int(d.x(t.value))
		if half := textWidth(t.label) / 2; x+half > d.Width-4 {
			anchor, x = "end", d.Width-4
		}
		d.text("tick-x", x, y-4, t.label, anchor, d.theme.soft)
	}
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
