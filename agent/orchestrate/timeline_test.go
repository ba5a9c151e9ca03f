package orchestrate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/config"
	"cis490/internal/episode"
	"cis490/internal/experiment"
)

func testProfile(stop string) experiment.Profile {
	budget := config.Duration(10 * time.Second)
	return experiment.Profile{Stop: stop, Phases: []experiment.Phase{
		{Name: "clean", Event: "start", Budget: budget},
		{Name: "armed", Event: "arm", Budget: budget},
		{Name: "running", Event: "run", Budget: budget},
	}}
}

// at is a moment in seconds.
func at(s float64) stamp {
	return stamp{wall: int64(1e18 + s*1e9), mono: int64(s * 1e9)}
}

// play runs a script against a timeline: "SECONDS EVENT" for the workload's events,
// "SECONDS !CODE" for the command's end, "SECONDS" for elapsed time.
func play(t *testing.T, stop string, story ...string) *timeline {
	t.Helper()
	line := newTimeline(testProfile(stop), at(0))
	for _, s := range story {
		var sec float64
		when, what, _ := strings.Cut(s, " ")
		if _, err := fmt.Sscan(when, &sec); err != nil {
			t.Fatal(err)
		}
		switch {
		case what == "":
			line.tick(at(sec))
		case what[0] == '!':
			line.exit(at(sec), "exit "+what[1:], what == "!0")
		default:
			line.workload(at(sec), what, "")
		}
	}
	return line
}

func summarize(line *timeline) (labels, uses []string) {
	for _, l := range line.labels {
		labels = append(labels, fmt.Sprintf("%g %s<%s", float64(l.Mono)/1e9, l.Phase, l.Event))
	}
	for _, e := range line.sorted() {
		uses = append(uses, fmt.Sprintf("%g %s %s", float64(e.Mono)/1e9, e.Event, e.Use))
	}
	return labels, uses
}

func TestTimeline(t *testing.T) {
	for name, c := range map[string]struct {
		stop   string
		story  []string
		labels []string
		uses   []string // after "0 start began"
		over   bool
	}{
		"as planned": {
			"exit",
			[]string{"3 arm", "5.5 run", "7 !0"},
			[]string{"0 clean<start", "3 armed<arm", "5.5 running<run"},
			[]string{"3 arm began", "5.5 run began", "7 exit ended"},
			true,
		},
		"just in time": {
			"exit",
			[]string{"9.999 arm"},
			[]string{"0 clean<start", "9.999 armed<arm"},
			[]string{"9.999 arm began"},
			false,
		},
		"event seen before the timer, but late": {
			"exit",
			[]string{"10.5 arm"},
			[]string{"0 clean<start", "10 failed<budget"},
			[]string{"10 budget failed", "10.5 arm late"},
			true,
		},
		"the timer seen before the event": {
			"exit",
			[]string{"10.5", "10.6 arm"},
			[]string{"0 clean<start", "10 failed<budget"},
			[]string{"10 budget failed", "10.6 arm late"},
			true,
		},
		"early": {
			"exit",
			[]string{"1 run", "2 arm", "3 !0"},
			[]string{"0 clean<start", "2 armed<arm", "3 failed<exit"},
			[]string{"1 run early", "2 arm began", "3 exit failed"},
			true,
		},
		"doubled and late": {
			"exit",
			[]string{"1 arm", "2 arm", "3 run", "4 arm", "5 start", "6 run", "7 !0"},
			[]string{"0 clean<start", "1 armed<arm", "3 running<run"},
			[]string{"1 arm began", "2 arm doubled", "3 run began", "4 arm late", "5 start late", "6 run doubled", "7 exit ended"},
			true,
		},
		"last phase too long": {
			"exit",
			[]string{"1 arm", "2 run", "13"},
			[]string{"0 clean<start", "1 armed<arm", "2 running<run", "12 failed<budget"},
			[]string{"1 arm began", "2 run began", "12 budget failed"},
			true,
		},
		"last phase ends by its budget": {
			"budget",
			[]string{"1 arm", "2 run", "13", "14 !0"},
			[]string{"0 clean<start", "1 armed<arm", "2 running<run"},
			[]string{"1 arm began", "2 run began", "12 budget ended", "14 exit late"},
			true,
		},
		"an earlier phase never does": {
			"budget",
			[]string{"1 arm", "12"},
			[]string{"0 clean<start", "1 armed<arm", "11 failed<budget"},
			[]string{"1 arm began", "11 budget failed"},
			true,
		},
		"end twice": {
			"exit",
			[]string{"1 end", "2 arm", "3 run", "4 end", "5 end", "6 !1"},
			[]string{"0 clean<start", "2 armed<arm", "3 running<run"},
			[]string{"1 end early", "2 arm began", "3 run began", "4 end ended", "5 end late", "6 exit late"},
			true,
		},
		"failed": {
			"exit",
			[]string{"1 failed", "2 arm"},
			[]string{"0 clean<start", "1 failed<failed"},
			[]string{"1 failed failed", "2 arm late"},
			true,
		},
		"note": {
			"exit", []string{"1 coffee"}, []string{"0 clean<start"}, []string{"1 coffee note"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			line := play(t, c.stop, c.story...)
			labels, uses := summarize(line)
			if diff := cmp.Diff(c.labels, labels); diff != "" {
				t.Errorf("labels: %s", diff)
			}
			if diff := cmp.Diff(append([]string{"0 start began"}, c.uses...), uses); diff != "" {
				t.Errorf("events: %s", diff)
			}
			if line.over != c.over {
				t.Errorf("over: %t", line.over)
			}
			failed := labels[len(labels)-1][strings.Index(labels[len(labels)-1], " ")+1:]
			v, reason := line.verdict()
			if want := strings.HasPrefix(failed, "failed<"); want != (v == episode.Failed) || want != (reason != "") {
				t.Errorf("verdict %s, reason %q", v, reason)
			}
		})
	}
}

func TestTimeline_AFloodOfNotesLosesNoLabel(t *testing.T) {
	line := newTimeline(testProfile("exit"), at(0))
	for range maxEvents + 100 {
		line.workload(at(1), "noise", "")
	}
	line.note(at(1), "proc", "started", "")
	line.workload(at(2), "arm", "")
	if line.phase != 1 || line.dropped != 101 || len(line.events) != maxEvents+2 {
		t.Errorf("phase %d, %d dropped, %d events", line.phase, line.dropped, len(line.events))
	}
}
