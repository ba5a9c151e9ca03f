package commands

import (
	"errors"
	"slices"
	"testing"
	"time"

	"cis490/agent/checks"
	"cis490/internal/config"
	"cis490/internal/ident"
	"cis490/internal/wire"
)

// TestFailing_CountsNoEpisodes: a ping's checks take the queue's figures from the shipper.
// Counting on the disk would take longer the more episodes wait.
func TestFailing_CountsNoEpisodes(t *testing.T) {
	count := func() error { t.Error("the episodes on the disk were counted"); return errors.New("counted") }
	conf := config.DefaultLabHost()
	conf.DataDir, conf.Doctor.OutboxOldest = t.TempDir(), config.Duration(time.Minute)
	late := failing(checks.Options{
		Path: "lab-host.toml", Config: conf, Awake: func() time.Duration { return time.Hour },
		Queue:      func() (wire.Queue, error) { return wire.Queue{}, count() },
		Stuck:      func() ([]ident.EpisodeID, error) { return nil, count() },
		Quarantine: func() (map[string]int, error) { return nil, count() },
	})
	for want, q := range map[bool]wire.Queue{true: {Waiting: 1, Oldest: time.Now().Add(-2 * time.Minute)}, false: {Held: 1}} {
		if got := late(t.Context(), q); slices.Contains(got, "outbox.oldest") != want {
			t.Errorf("%+v: failing are %v", q, got)
		}
	}
}
