//go:build e2e && soak

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cis490/e2e/lab"
)

// What counts as flat: in the second half of its life a daemon needs, in the
// middle, at most so much more than in the first. Shorter lives tell nothing.
const (
	flatLife   = 5 * time.Minute
	flatKiB    = 4 << 10
	flatFiles  = 4
	sampleFrom = 30 * time.Second // not while it starts
	sampleEach = 30 * time.Second
)

// sample is what a daemon needed at a time. Life names one run of it.
type sample struct {
	at         time.Time
	life       string
	unit       string
	rss, files int
}

const sampleScript = `for u in $(systemctl list-units --plain --no-legend --state=running 'cis490-*.service' | cut -d' ' -f1); do
	p=$(systemctl show -p MainPID --value $u); test "$p" -gt 0 && echo $u $(cut -d' ' -f22 /proc/$p/stat) $(grep VmRSS /proc/$p/status | tr -dc 0-9) $(ls /proc/$p/fd | wc -l)
done; true`

// sample notes what each daemon needs now.
func (s *soak) sample() {
	s.sampled = time.Now()
	for _, m := range append([]*lab.Host{s.rx}, s.hosts...) {
		if s.off[m] {
			continue
		}
		for line := range strings.Lines(m.Try(sampleScript).Out) {
			x := sample{at: time.Now()}
			var started int
			if _, err := fmt.Sscan(line, &x.unit, &started, &x.rss, &x.files); err != nil {
				continue // it ended meanwhile
			}
			x.unit = strings.TrimSuffix(strings.TrimPrefix(x.unit, "cis490-"), ".service")
			switch x.unit {
			case "shipper", "orchestrator", "receiver", "bootstrap":
				x.life = fmt.Sprint(m.Name, " ", x.unit, " ", started)
				s.samples = append(s.samples, x)
			}
		}
	}
}

func (s *soak) sampleSometimes() {
	if time.Since(s.sampled) > sampleEach {
		s.sample()
	}
}

// nothingGrew: each daemon's memory and open files were flat over its life.
func (s *soak) nothingGrew() {
	lives := map[string][]sample{}
	for _, x := range s.samples {
		lives[x.life] = append(lives[x.life], x)
	}
	longest := map[string][]sample{}
	for _, name := range slices.Sorted(maps.Keys(lives)) {
		all := lives[name]
		first := all[0].at
		all = slices.DeleteFunc(all, func(x sample) bool { return x.at.Sub(first) < sampleFrom })
		if len(all) < 4 || all[len(all)-1].at.Sub(first) < flatLife {
			continue
		}
		early, late := all[:len(all)/2], all[len(all)/2:]
		rss := func(x sample) int { return x.rss }
		files := func(x sample) int { return x.files }
		if a, b := median(early, rss), median(late, rss); b > a+a/4+flatKiB {
			s.t.Errorf("%s: memory grew from %d to %d KiB", name, a, b)
		}
		if a, b := median(early, files), median(late, files); b > a+flatFiles {
			s.t.Errorf("%s: open files grew from %d to %d", name, a, b)
		}
		if unit := all[0].unit; len(all) > len(longest[unit]) {
			longest[unit] = all
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(longest)) {
		all := longest[unit]
		s.t.Logf("%-12s for %s: %d to %d KiB, %d to %d files (%s)", unit, all[len(all)-1].at.Sub(all[0].at).Round(time.Second),
			all[0].rss, all[len(all)-1].rss, all[0].files, all[len(all)-1].files, all[0].life)
	}
}

func median(all []sample, of func(sample) int) int {
	var values []int
	for _, x := range all {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
