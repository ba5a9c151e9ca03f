package server

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"cis490/receiver"
)

// TestFailures_OfTheStorage: a storage that was away leaves no condition. Its own one ends when it
// is back, while the host may have repeated the request at another receiver.
func TestFailures_OfTheStorage(t *testing.T) {
	now := time.Now()
	n := &request{host: "lab-a", route: receiver.RouteEpisode, identified: true}
	for err, want := range map[error]int{
		fmt.Errorf("%w: no connection", receiver.ErrUnavailable): 0,
		fmt.Errorf("%w: no store", receiver.ErrBusy):             0,
		errors.New("input/output error"):                         1,
	} {
		f := &failures{}
		f.add(n, err, now)
		if got := f.conditions(false, now); len(got) != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
