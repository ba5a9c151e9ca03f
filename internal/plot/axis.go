package plot

import (
	"math"
	"strconv"
	"time"

	"cis490/internal/episode"
)

// axis maps values to the range from 0 to 1.
type axis struct {
	low, high float64
	ticks     []tick
}

type tick struct {
	value float64
	label string
}

// place returns where a value is on the axis: 0 is its beginning, 1 its end.
func (a axis) place(v float64) float64 {
	return min(max((v-a.low)/(a.high-a.low), 0), 1)
}

// scale is the unit in which the values of an axis are labelled.
type scale struct {
	factor float64
	suffix string
	whole  bool // only whole numbers have a tick
}

// valueAxis returns an axis from 0, or from the smallest negative value, that has three
// to five ticks at round values.
func valueAxis(c episode.Curve) axis {
	low, high := 0.0, 0.0
	for _, p := range c.Points {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			low, high = min(low, p.Value), max(high, p.Value)
		}
	}
	s := scaleOf(c.Unit, max(high, -low))
	step := roundStep((high/s.factor-low/s.factor)/3, s.whole)
	a := axis{low: math.Floor(low/s.factor/step) * step * s.factor, high: math.Ceil(high/s.factor/step) * step * s.factor}
	if a.high <= a.low {
		a.high = a.low + step*s.factor
	}
	a.ticks = ticks(a.low, a.high, step, s)
	return a
}

// timeAxis returns the axis of the moments from 0 to end, in nanoseconds, with at most so
// many labels.
func timeAxis(end int64, most int) axis {
	s := scale{factor: float64(time.Second), suffix: " s"}
	switch {
	case end > int64(10*time.Hour):
		s = scale{factor: float64(time.Hour), suffix: " h"}
	case end > int64(10*time.Minute):
		s = scale{factor: float64(time.Minute), suffix: " min"}
	}
	a := axis{high: float64(max(end, 1))}
	a.ticks = ticks(0, a.high, roundStep(a.high/s.factor/float64(most-1), false), s)
	return a
}

func scaleOf(unit string, most float64) scale {
	switch unit {
	case episode.UnitPercent:
		return scale{factor: 1, suffix: " %"}
	case episode.UnitCount:
		return scale{factor: 1, whole: true}
	case episode.UnitBytes, episode.UnitRate:
		s := scale{factor: 1, suffix: " B", whole: true}
		for _, suffix := range []string{" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"} {
			if most < 1024*s.factor {
				break
			}
			s = scale{factor: 1024 * s.factor, suffix: suffix}
		}
		if unit == episode.UnitRate {
			s.suffix += "/s"
		}
		return s
	}
	return scale{factor: 1}
}

// roundStep returns the smallest of 1, 2 and 5 times a power of ten that is at least as
// large as a step, and at least 1 if it must be whole.
func roundStep(step float64, whole bool) float64 {
	if whole && step < 1 || step <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= step*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func ticks(low, high, step float64, s scale) []tick {
	var all []tick
	first := math.Ceil(low/s.factor/step - 1e-6)
	for k := range 12 {
		v := (first + float64(k)) * step
		if v*s.factor > high*(1+1e-9)+1e-300 {
			break
		}
		all = append(all, tick{v * s.factor, strconv.FormatFloat(v+0, 'g', 6, 64) + s.suffix})
	}
	return all
}
