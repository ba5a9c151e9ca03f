package plot_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cis490/internal/episode"
	"cis490/internal/ident"
	"cis490/internal/plot"
)

// recorded makes an overview like those that orchestrate records: nine curves, up to
// eight phases, from seconds to hours.
func recorded(seed uint64) episode.Overview {
	r := rand.New(rand.NewPCG(seed, 1))
	end := int64(math.Pow(10, 9.5+4*r.Float64()))
	o := episode.Overview{End: end}
	o.Meta = episode.Meta{Profile: "hash", Host: "lab-01", Episode: "01J9Z3NDEKTSV4RRFFQ69G5FAV", Verdict: episode.Accepted}
	for i, n := 0, 1+r.IntN(8); i < n; i++ {
		at := func(k int) int64 { return int64(k) * end / int64(n) }
		o.Phases = append(o.Phases, episode.Phase{Name: fmt.Sprintf("phase-%d", i%5), Begin: at(i), End: at(i + 1)})
	}
	for i, unit := range []string{"%", "bytes", "count", "bytes/s", "bytes/s", "bytes", "%", "%", "%"} {
		c := episode.Curve{Name: fmt.Sprintf("curve %d", i), Unit: unit}
		most := map[string]float64{"%": 400, "bytes": 1 << 36, "bytes/s": 1 << 28, "count": 12}[unit] * math.Pow(10, -5*r.Float64())
		for k, n := 0, 2+r.IntN(3000); k < n; k++ {
			v := most * r.Float64()
			if unit == "count" {
				v = math.Round(v)
			}
			c.Points = append(c.Points, episode.Point{Mono: int64(k) * end / int64(n), Value: v})
		}
		o.Curves = append(o.Curves, c)
	}
	return o
}

// TestSVG_FortyEpisodes checks what a reader needs of 40 drawn episodes. With
// CIS490_EPISODES=folder, it draws the tarballs there instead.
func TestSVG_FortyEpisodes(t *testing.T) {
	all := map[string]episode.Overview{}
	for seed := range uint64(40) {
		all[fmt.Sprint("seed ", seed)] = recorded(seed)
	}
	if dir := os.Getenv("CIS490_EPISODES"); dir != "" {
		all = tarballs(t, dir)
	}
	for title, o := range all {
		for _, style := range []plot.Style{{}, {Dark: true}, {Narrow: true}, {Dark: true, Narrow: true}} {
			svg, err := plot.SVG(o, style)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range faults(svg, o, style) {
				t.Errorf("%s, %+v: %s", title, style, fault)
			}
		}
	}
	t.Logf("%d episodes drawn", len(all))
}

func tarballs(t *testing.T, dir string) map[string]episode.Overview {
	t.Helper()
	all := map[string]episode.Overview{}
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		o, err := episode.ReadOverviewOf(f, ident.EpisodeID(strings.TrimSuffix(filepath.Base(path), ".tar.zst")))
		_ = f.Close() // only read
		if err != nil {
			t.Fatal(err)
		}
		all[path] = o
	}
	return all
}

// element is a part of a drawn plot.
type element struct {
	XMLName xml.Name
	Class   string  `xml:"class,attr"`
	X       string  `xml:"x,attr"`
	Y       float64 `xml:"y,attr"`
	D       string  `xml:"d,attr"`
	Anchor  string  `xml:"text-anchor,attr"`
	Fill    string  `xml:"fill,attr"`
	Stroke  string  `xml:"stroke,attr"`
	Opacity float64 `xml:"fill-opacity,attr"`
	Text    string  `xml:",chardata"`
}

func (e element) x() float64 { v, _ := strconv.ParseFloat(e.X, 64); return v }

// faults lists what is wrong with a plot.
func faults(b []byte, o episode.Overview, style plot.Style) (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	var doc struct {
		Width float64   `xml:"width,attr"`
		Size  float64   `xml:"font-size,attr"`
		Parts []element `xml:",any"`
	}
	if err := xml.NewDecoder(bytes.NewReader(b)).Decode(&doc); err != nil {
		return []string{err.Error()}
	}
	of := func(class string) (some []element) {
		for _, e := range doc.Parts {
			if e.Class == class {
				some = append(some, e)
			}
		}
		return some
	}
	// One panel's ticks lie between its name and the next one's.
	names, grounds, back := of("name"), []string{}, doc.Parts[0].Fill
	for i, n := range names {
		next := math.Inf(1)
		if i+1 < len(names) {
			next = names[i+1].Y
		}
		var labels []string
		last := math.Inf(1)
		for _, e := range of("tick-y") {
			if e.Y > n.Y && e.Y < next {
				if labels = append(labels, e.Text); last-e.Y < doc.Size {
					wrong("%s: labels overlap at %q", n.Text, e.Text)
				}
				last = e.Y
			}
		}
		if u := slices.Compact(slices.Sorted(slices.Values(labels))); len(u) != len(labels) || len(u) < 2 {
			wrong("%s: ticks %q", n.Text, labels)
		}
		if o.Curves[i].Unit == episode.UnitCount && regexp.MustCompile(`[.e]`).MatchString(strings.Join(labels, "")) {
			wrong("%s: fractions of a count: %q", n.Text, labels)
		}
		if n.x() != names[0].x() {
			wrong("%s begins at %v, the first panel at %v", n.Text, n.x(), names[0].x())
		}
	}
	for _, g := range of("grid") { // "Mx yLx y"
		if x, _, _ := strings.Cut(g.D[1:], " "); parse(x) < names[0].x() {
			wrong("a panel begins at %s, not at %v", x, names[0].x())
		}
	}
	var times []string
	edge := -1.0
	for _, e := range of("tick-x") {
		if times = append(times, e.Text); e.x()-float64(len(e.Text))*doc.Size*.3 < edge {
			wrong("time labels overlap at %q", e.Text)
		}
		edge = e.x() + float64(len(e.Text))*doc.Size*.3
	}
	if u := slices.Compact(slices.Sorted(slices.Values(times))); len(u) != len(times) || len(u) < 3 {
		wrong("time ticks %q", times)
	}
	for _, e := range of("band") {
		grounds = append(grounds, blend(e.Fill, back, e.Opacity))
	}
	for _, e := range doc.Parts[1:] {
		switch {
		case e.XMLName.Local == "text" && e.Class != "phase-name" && contrast(e.Fill, back) < 4.5:
			wrong("text %q: contrast %.2f", e.Text, contrast(e.Fill, back))
		case (e.Class == "phase" || e.Class == "key") && contrast(e.Fill, back) < 4.5: // its name is written on it
			wrong("phase %s: contrast %.2f", e.Fill, contrast(e.Fill, back))
		case e.Class == "line":
			for _, g := range append(grounds, back) {
				if c := contrast(e.Stroke, g); c < 3 {
					wrong("line %s on %s: contrast %.2f", e.Stroke, g, c)
				}
			}
		}
		if e.XMLName.Local == "text" {
			width := float64(len([]rune(e.Text))) * doc.Size * .58
			left := e.x() - map[string]float64{"end": width, "middle": width / 2}[e.Anchor]
			if left < 0 || left+width > doc.Width {
				wrong("text %q is cut off: from %.0f to %.0f of %.0f", e.Text, left, left+width, doc.Width)
			}
		}
	}
	if doc.Size < 12 || style.Narrow && doc.Width > 390 {
		wrong("text of %v pixels, %v wide", doc.Size, doc.Width)
	}
	return all
}

func parse(s string) float64 { v, _ := strconv.ParseFloat(s, 64); return v }

func rgb(color string) (c [3]float64) {
	v, _ := strconv.ParseUint(strings.TrimPrefix(color, "#"), 16, 32)
	return [3]float64{float64(v >> 16), float64(v >> 8 & 255), float64(v & 255)}
}

func blend(over, under string, part float64) string {
	a, b := rgb(over), rgb(under)
	out := "#"
	for i := range a {
		out += fmt.Sprintf("%02x", int(a[i]*part+b[i]*(1-part)))
	}
	return out
}

// contrast is WCAG's contrast ratio.
func contrast(a, b string) float64 {
	light := func(color string) (sum float64) {
		for i, v := range rgb(color) {
			if v /= 255; v <= .03928 {
				v /= 12.92
			} else {
				v = math.Pow((v+.055)/1.055, 2.4)
			}
			sum += v * []float64{.2126, .7152, .0722}[i]
		}
		return sum
	}
	x, y := light(a)+.05, light(b)+.05
	return max(x, y) / min(x, y)
}
