package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// unit has the modelled settings of a unit's file and of its timer's.
type unit struct {
	text      string
	remains   bool   // RemainAfterExit=: its timer starts it once
	restart   string // Restart=
	pause     time.Duration
	watchdog  time.Duration
	prevent   []string // exit codes after which it is not restarted
	success   []string // exit codes that count as success
	onFailure []string

	boot, every, spread time.Duration // of the timer; every is 0 without one
}

// parseUnit reads the text of a unit and of its timer.
func parseUnit(text string) (u unit, err error) {
	u.text, u.pause = text, 100*time.Millisecond
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		var to *time.Duration
		switch key {
		case "RemainAfterExit":
			u.remains = value == "yes"
		case "Restart":
			u.restart = value
		case "RestartPreventExitStatus":
			u.prevent = strings.Fields(value)
		case "SuccessExitStatus":
			u.success = strings.Fields(value)
		case "OnFailure":
			u.onFailure = strings.Fields(value)
		case "RestartSec":
			to = &u.pause
		case "WatchdogSec":
			to = &u.watchdog
		case "OnBootSec":
			to = &u.boot
		case "OnUnitActiveSec":
			to = &u.every
		case "RandomizedDelaySec":
			to = &u.spread
		}
		if to == nil {
			continue
		}
		if *to, err = span(value); err != nil {
			return u, fmt.Errorf("%s: %w", key, err)
		}
	}
	return u, nil
}

// span parses a systemd.time(7) duration of one number.
func span(text string) (time.Duration, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(strings.Replace(text, "min", "m", 1))
}
