//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// lanes runs as many scenarios side by side as -parallel says, those that take longest first.
// Package testing would begin them in any order, and the last one could be the longest.
type lanes struct {
	mu      sync.Mutex
	changed *sync.Cond
	free    int
	waiting []string // names of scenarios
}

// lane has the scenarios that have called inLane.
var lane = lanes{free: 1}

// open takes -parallel over from package testing, before its tests run.
func (l *lanes) open() error {
	flag.Parse()
	l.changed = sync.NewCond(&l.mu)
	parallel := flag.Lookup("test.parallel").Value
	n, err := strconv.Atoi(parallel.String())
	l.free = n
	if err != nil {
		return fmt.Errorf("-parallel: %w", err)
	}
	return parallel.Set("1000")
}

// inLane is t.Parallel for a scenario: it returns when the scenario has a lane. The log gets
// its duration, because the one of package testing includes the wait.
func inLane(t *testing.T) {
	t.Helper()
	l := &lane
	l.mu.Lock()
	l.waiting = append(l.waiting, t.Name())
	l.mu.Unlock()
	t.Parallel() // from here on the list is complete
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.free == 0 || slices.MaxFunc(l.waiting, func(a, b string) int { return minutes(a) - minutes(b) }) != t.Name() {
		l.changed.Wait()
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(name string) bool { return name == t.Name() })
	l.free--
	l.changed.Broadcast()
	began := time.Now()
	t.Cleanup(func() {
		t.Logf("scenario: %s took %s", t.Name(), time.Since(began).Round(time.Second))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.free++
		l.changed.Broadcast()
	})
}

// minutes returns how long a scenario takes, if that is long. It decides only the order.
func minutes(scenario string) int {
	return map[string]int{
		"TestStore_Troubles":                       16,
		"TestStore_Away":                           15,
		"TestCluster_Receivers":                    11,
		"TestSetup_WithoutGo":                      10,
		"TestCluster_Storage":                      10,
		"TestIncident20_CaptivePortalAndGateWrong": 9,
		"TestGuest_PowerCutReceiver":               8,
		"TestIncident01_RefusedForEver":            6,
		"TestUpdate_EverythingElseBroken":          5,
		"TestCluster_Authority":                    5,
		"TestEverySickHostIsNamed":                 5,
		"TestClock_ReceiverBehindThenAhead":        5,
		"TestClock_AheadAtEnrollment":              5,
		"TestMachines_NoUserNamespaces":            5,
		"TestIncident05_AuthorityDown":             4,
		"TestIncident06_ShipperHangs":              4,
		"TestIncident11_PowerCutUpdate":            4,
		"TestIncident21_FalseAlarms":               4,
	}[scenario]
}
