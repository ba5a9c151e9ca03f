package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cis490/receiver"
	"cis490/receiver/fleet"
)

// silence is a fault that the demo shows: the shipper of a host is stopped until its alert
// appears, and then goes on.
type silence struct {
	stopped, alerted, ended bool
	shown                   int // rows of alerts
}

// silentAfter is how long a host of the demo may be silent: with a fault, as short as its
// episodes allow.
func (s *silence) silentAfter() string {
	if s == nil {
		return "30m"
	}
	return "20s"
}

// breakOne takes the next step of the fault, and prints new alerts. Healthy hosts are
// awaited first. It reports whether the fault has ended; without a fault, it has.
func (d *demo) breakOne(start time.Time, alerts receiver.Log[fleet.Alert], healthy bool) (ended bool, err error) {
	s := d.fault
	if s == nil {
		return true, nil
	}
	broken := d.hosts[0]
	if healthy && !s.stopped {
		s.stopped = true
		d.a.printf("%6.1fs  %s  stops shipping: a fault of the demo\n", time.Since(start).Seconds(), broken)
		return false, d.kids.signal("ship-"+string(broken), syscall.SIGSTOP)
	}
	row := 0
	for x, err := range alerts.Since(time.Time{}) {
		if err != nil {
			return false, err
		}
		if row++; row <= s.shown || x.Symptom == "" {
			continue
		}
		s.shown = row
		d.a.printf("%6.1fs  %s  alert %s %s\n", time.Since(start).Seconds(), x.Host, x.Symptom, x.State)
		switch {
		case x.State == fleet.Firing:
			d.a.printf("%8s  reason: %s\n%8s  fix: %s\n", "", x.Reason, "", strings.ReplaceAll(x.Fix, "\n", "; "))
			if x.Host == string(broken) && !s.alerted {
				s.alerted = true
				if err := d.kids.signal("ship-"+x.Host, syscall.SIGCONT); err != nil {
					return false, err
				}
				d.a.printf("%6.1fs  %s  ships again\n", time.Since(start).Seconds(), broken)
			}
		case x.Host == string(broken):
			s.ended = true
		}
	}
	return s.ended, nil
}

// signal sends a signal to a running child.
func (k *children) signal(name string, s syscall.Signal) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.running {
		if c.name == name {
			return c.cmd.Process.Signal(s)
		}
	}
	return fmt.Errorf("%s does not run", name)
}

// program returns the name by which a person at this terminal can start this program.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return "cis490"
	}
	if dir, err := os.Getwd(); err == nil {
		if near, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(near, "..") {
			return "./" + near
		}
	}
	return path
}
