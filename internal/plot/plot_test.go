package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"cis490/internal/episode"
	"cis490/internal/plot"
)

func overview(phases int, values ...float64) episode.Overview {
	o := episode.Overview{End: 10e9, Meta: episode.Meta{Profile: `<script>alert("1")</script>&`}}
	for i := range phases {
		o.Phases = append(o.Phases, episode.Phase{Name: "<b>&", Begin: int64(i) * 10e9 / int64(phases), End: int64(i+1) * 10e9 / int64(phases)})
	}
	c := episode.Curve{Name: "memory", Unit: episode.UnitBytes}
	for i, v := range values {
		c.Points = append(c.Points, episode.Point{Mono: int64(i) * 10e9 / int64(len(values)), Value: v})
	}
	o.Curves = []episode.Curve{c, c}
	return o
}

// A plot is well-formed, whatever the episode's figures and texts are.
func TestSVG(t *testing.T) {
	many := make([]float64, 5000)
	for i := range many {
		many[i] = math.Sin(float64(i)/50) + 1
	}
	for name, o := range map[string]episode.Overview{
		"usual": overview(4, many...), "zero": overview(2, 0, 0, 0), "negative": overview(1, -5, -1e18, 3),
		"huge": overview(3, math.MaxInt64, 1, math.MaxInt64), "tiny": overview(1, 1e-300, 2e-300), "no phase": overview(0, 1, 2, 3),
		"many phases": overview(60, many...),
	} {
		for _, style := range []plot.Style{{}, {Dark: true}, {Narrow: true}} {
			svg, err := plot.SVG(o, style)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
					break
				}
				if e, ok := tok.(xml.StartElement); ok && (e.Name.Local == "script" || e.Name.Local == "b") {
					t.Errorf("%s: text became a <%s>", name, e.Name.Local)
				}
			}
			if len(svg) > 2<<20 {
				t.Errorf("%s: %d bytes", name, len(svg))
			}
		}
	}
	if _, err := plot.SVG(overview(61, 1, 2), plot.Style{}); err == nil || !strings.Contains(err.Error(), "phases") {
		t.Errorf("61 phases: %v", err)
	}
	if _, err := plot.SVG(episode.Overview{}, plot.Style{}); err == nil {
		t.Error("an episode without rows was drawn")
	}
}
