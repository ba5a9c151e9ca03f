package plot

import (
	"encoding/xml"
	"fmt"
)

// svg is the document. encoding/xml escapes all of its text.
type svg struct {
	XMLName xml.Name `xml:"svg"`
	NS      string   `xml:"xmlns,attr"`
	Width   int      `xml:"width,attr"`
	Height  int      `xml:"height,attr"`
	ViewBox string   `xml:"viewBox,attr"`
	Font    string   `xml:"font-family,attr"`
	Size    int      `xml:"font-size,attr"`
	Shapes  []shape
}

// shape is a rect, a path or a text.
type shape struct {
	XMLName     xml.Name
	Class       string `xml:"class,attr,omitempty"`
	X           string `xml:"x,attr,omitempty"`
	Y           string `xml:"y,attr,omitempty"`
	Width       string `xml:"width,attr,omitempty"`
	Height      string `xml:"height,attr,omitempty"`
	D           string `xml:"d,attr,omitempty"`
	Anchor      string `xml:"text-anchor,attr,omitempty"`
	Fill        string `xml:"fill,attr,omitempty"`
	FillOpacity string `xml:"fill-opacity,attr,omitempty"`
	Stroke      string `xml:"stroke,attr,omitempty"`
	StrokeWidth string `xml:"stroke-width,attr,omitempty"`
	Cap         string `xml:"stroke-linecap,attr,omitempty"`
	Text        string `xml:",chardata"`
}

func name(element string) xml.Name { return xml.Name{Local: element} }

func (s *svg) add(x shape) { s.Shapes = append(s.Shapes, x) }

func (s *svg) text(class string, x, y int, text, anchor, color string) {
	s.add(shape{XMLName: name("text"), Class: class, X: fmt.Sprint(x), Y: fmt.Sprint(y), Anchor: anchor, Fill: color, Text: text})
}

func (s *svg) rect(class string, x, y, width, height float64, color string) {
	r := shape{XMLName: name("rect"), Class: class, X: pixels(x), Y: pixels(y), Width: pixels(width), Height: pixels(height), Fill: color}
	if class == "band" {
		r.FillOpacity = bandOpacity
	}
	s.add(r)
}

func (s *svg) line(class string, x1, y1, x2, y2 float64, color string) {
	d := "M" + pixels(x1) + " " + pixels(y1) + "L" + pixels(x2) + " " + pixels(y2)
	s.add(shape{XMLName: name("path"), Class: class, D: d, Stroke: color})
}

func pixels(v float64) string { return fmt.Sprintf("%.1f", v) }

// bandOpacity is how much of a phase's colour is behind the curves.
const bandOpacity = "0.12"

// theme has the colours: text, lines and phases have a contrast of at least 4.5 to the
// background.
type theme struct {
	back, text, soft, grid, line string
	phases                       []string
}

func themeOf(dark bool) theme {
	if dark {
		return theme{
			back: "#171b21", text: "#e6e9ec", soft: "#a3acb7", grid: "#39414b", line: "#f4f6f8",
			phases: []string{"#6ea2f5", "#f0a35e", "#6fcf85", "#c39bf5", "#ff8f87", "#5fc9d8", "#cfc35a", "#f08cc8"},
		}
	}
	return theme{
		back: "#ffffff", text: "#191d22", soft: "#57606a", grid: "#dfe3e8", line: "#12315c",
		phases: []string{"#0b62c4", "#b54708", "#1a7f37", "#7b3fc4", "#c0262d", "#0e7490", "#6b6100", "#b0277f"},
	}
}
