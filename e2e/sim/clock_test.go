package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClock_HasBothReadings: a step moves the wall clock and no timer.
func TestClock_HasBothReadings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Clock
		c.Step(24 * time.Hour)
		until := c.Now().Add(time.Minute)
		if want := time.Now().Add(24*time.Hour + time.Minute); !until.Round(0).Equal(want) {
			t.Errorf("the wall clock shows %s, want %s", until.Round(0), want)
		}
		c.Step(-24 * time.Hour)
		time.Sleep(20 * time.Second)
		if left := until.Sub(c.Now()); left != 40*time.Second {
			t.Errorf("after a step back by a day, %s are left of a minute", left)
		}
	})
}
