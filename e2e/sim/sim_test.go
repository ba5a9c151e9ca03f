package sim_test

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"cis490/e2e/sim"
)

func TestPeace(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	synctest.Test(t, func(t *testing.T) {
		r, err := sim.Run(sim.Plan{Seed: 1, Hosts: 10, Length: 24 * time.Hour}, dir, nil, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r)
	})
	t.Log(time.Since(start))
}
