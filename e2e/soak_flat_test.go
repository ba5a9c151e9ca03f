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

// Memory and open files are flat if their median in the second half of a daemon's life is
// at most this much above that of the first half. Shorter lives are not compared.
const (
	flatLife   = 5 * time.Minute
	flatKiB    = 4 << 10
	flatFiles  = 4
	flatConns  = soakHosts        // more for the receiver: a connection for each host
	sampleFrom = 30 * time.Second // samples of a starting daemon do not count
	sampleEach = 30 * time.Second
)

// A sample is a daemon's memory, in KiB, and open files at a time. Life names one run of the
// daemon.
type sample struct {
	at         time.Time
	life       string
	unit       string
	rss, files int
}

const sampleScript = `for u in $(systemctl list-units --plain --no-legend --state=running 'cis490-*.service' | cut -d' ' -f1); do
	p=$(systemctl show -p MainPID --value $u); test "$p" -gt 0 &&
	echo $u $(cut -d' ' -f22 /proc/$p/stat) $(grep VmRSS /proc/$p/status | tr -dc 0-9) $(ls /proc/$p/fd | wc -l)
done; true`

// sample samples each daemon.
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
				continue // the daemon has ended
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

// checkNoGrowth checks that memory and open files were flat, over each life of a daemon and
// over all lives of each unit.
func (s *soak) checkNoGrowth() {
	began := map[string]time.Time{}
	of := map[string][]sample{}
	for _, x := range s.samples {
		if began[x.life].IsZero() {
			began[x.life] = x.at
		}
		if x.at.Sub(began[x.life]) >= sampleFrom {
			of[x.life], of[x.unit] = append(of[x.life], x), append(of[x.unit], x)
		}
	}
	rss := func(x sample) int { return x.rss }
	files := func(x sample) int { return x.files }
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all := of[name]
		if all[len(all)-1].at.Sub(all[0].at) < flatLife {
			continue
		}
		early, late := all[:len(all)/2], all[len(all)/2:]
		memory, open := []int{median(early, rss), median(late, rss)}, []int{median(early, files), median(late, files)}
		if memory[1] > memory[0]+memory[0]/4+flatKiB {
			s.t.Errorf("%s: memory grew from %d to %d KiB", name, memory[0], memory[1])
		}
		most := open[0] + flatFiles
		if all[0].unit == "receiver" {
			most += flatConns
		}
		if open[1] > most {
			s.t.Errorf("%s: open files grew from %d to %d", name, open[0], open[1])
		}
		if name == all[0].unit {
			s.t.Logf("%-12s %d samples, first and second half: %d and %d KiB, %d and %d open files; at most %d KiB and %d files", name, len(all),
				memory[0], memory[1], open[0], open[1], rss(slices.MaxFunc(all, compareBy(rss))), files(slices.MaxFunc(all, compareBy(files))))
		}
	}
}

func compareBy(of func(sample) int) func(a, b sample) int {
	return func(a, b sample) int { return of(a) - of(b) }
}

func median(all []sample, of func(sample) int) int {
	var values []int
	for _, x := range all {
		values = append(values, of(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
