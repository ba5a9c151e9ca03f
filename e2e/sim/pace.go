package sim

import "time"

// pace is how far apart what recurs is: 1 as installed, 2 twice as far. Fewer pings,
// recordings and runs of timers make a week cheaper; the limits by which people are told
// grow with them.
type pace int

func (p pace) times(d time.Duration) time.Duration { return time.Duration(p) * d }

// checks is how often fleet-check runs.
func (p pace) checks() time.Duration { return p.timer(5 * time.Minute) }

// timer is how often a timer starts what its unit says; what comes daily is not stretched.
func (p pace) timer(every time.Duration) time.Duration {
	if every < time.Hour {
		every *= time.Duration(p)
	}
	return every
}

// records is how often a host has an episode: a few within what may be silent.
func (p pace) records() time.Duration { return p.times(9 * time.Minute) }

// asks is how long an answer of the gate counts on a host, and until it hears another.
func (p pace) asks() time.Duration { return 10 * time.Minute }

// polls is how often serve looks at what others change; 0: as installed.
func (p pace) polls() time.Duration {
	if p == 1 {
		return 0
	}
	return min(p.times(20*time.Second), 45*time.Second) // a minute would count as an outage
}

// told is how long a fault may last before somebody is told: what may be silent, the
// time between two episodes and that of a run of fleet-check.
func (p pace) told() time.Duration { return p.times(time.Hour) }

// longTold is an age at which it must still be told: what an episode may be old for a host
// to be silent is over.
func (p pace) longTold() time.Duration { return 25*time.Hour + p.times(time.Hour) }

// settles is how long after a fault its traces may still show: what waits goes out after
// a wait of an hour at most, and fleet-check sees it then.
func (p pace) settles() time.Duration { return time.Hour + p.times(40*time.Minute) }

// unjudged is how long nothing may be judged while the receiver is up: its start, a run
// and another.
func (p pace) unjudged() time.Duration { return 20*time.Minute + p.times(20*time.Minute) }

// concludes is how long it takes until a host knows what is stored.
func (p pace) concludes() time.Duration { return 2*time.Hour + p.times(time.Hour) }

// calms is how long nothing may have been wrong before a step that stands still is held
// against the programs.
func (p pace) calms() time.Duration { return 3*time.Hour + p.times(time.Hour) }

// peace is how long a run goes on after the last fault, until all is to be well.
func (p pace) peace() time.Duration { return 2*time.Hour + p.times(time.Hour) }

// arrives is how long an episode is on its way.
func (p pace) arrives() time.Duration { return 30*time.Minute + p.times(30*time.Minute) }
