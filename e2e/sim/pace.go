package sim

import "time"

// pace multiplies the intervals of pings, recordings, timers, restarts and watchdogs: 1 is as
// installed. A larger pace makes a week cheaper. The limits for alerts grow with it.
type pace int

func (p pace) times(d time.Duration) time.Duration { return time.Duration(p) * d }

// checks is the interval of fleet-check.
func (p pace) checks() time.Duration { return p.timer(5 * time.Minute) }

// timer returns the interval of a timer. Daily timers are not stretched.
func (p pace) timer(every time.Duration) time.Duration {
	if every < time.Hour {
		every *= time.Duration(p)
	}
	return every
}

// records is the interval of a host's episodes, a fraction of silent_after.
func (p pace) records() time.Duration { return p.times(9 * time.Minute) }

// asks is how long an answer of the gate counts on a host, and until it hears another.
func (p pace) asks() time.Duration { return 10 * time.Minute }

// polls is how often serve checks files of other processes; 0: as installed.
func (p pace) polls() time.Duration {
	if p == 1 {
		return 0
	}
	return min(p.times(30*time.Second), 2*time.Minute) // the watchdog and readers of contacts.json expect one in 150 seconds
}

// alertAfter is how long a fault may last without an alert: silent_after, the time between
// two episodes, and a run of fleet-check.
func (p pace) alertAfter() time.Duration { return p.times(time.Hour) }

// staleAfter is an age at which the fault must still have an alert: the host's last episode
// is too old for silent by then.
func (p pace) staleAfter() time.Duration { return 25*time.Hour + p.times(time.Hour) }

// settles is how long after a fault its effects may last: waiting episodes are sent after an
// hour at most, and then fleet-check runs.
func (p pace) settles() time.Duration { return time.Hour + p.times(40*time.Minute) }

// compares is how long an alert about a clone lasts after its last ping: twice silent_after,
// and two runs of fleet-check.
func (p pace) compares() time.Duration { return p.times(time.Hour) + 2*p.checks() }

// reaches is how long after a fault a host's last ping may still not reach the receiver.
func (p pace) reaches() time.Duration { return p.times(20 * time.Minute) }

// unjudged is how long the receiver may be up without a complete fleet-check: its start and
// two runs.
func (p pace) unjudged() time.Duration { return 20*time.Minute + p.times(20*time.Minute) }

// concludes is how long a stored episode may stay in its host's queue.
func (p pace) concludes() time.Duration { return 2*time.Hour + p.times(time.Hour) }

// calms is how long no fault may have been active before a stalled step breaks a rule.
func (p pace) calms() time.Duration { return 3*time.Hour + p.times(time.Hour) }

// peace is how long a run continues after the last fault, until the final rules apply.
func (p pace) peace() time.Duration { return 2*time.Hour + p.times(time.Hour) }

// arrives is how long an episode may be in transit.
func (p pace) arrives() time.Duration { return 30*time.Minute + p.times(30*time.Minute) }
