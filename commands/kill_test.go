package commands_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var kills = flag.Int("kills", 12, "how often TestShip_Killed kills the shipper")

// TestShip_Killed kills the shipper repeatedly at random moments, and sometimes the
// receiver. In the end both sides have the same episodes, once each.
func TestShip_Killed(t *testing.T) {
	t.Parallel()
	r := newSite(t)
	var restarts, amid int
	for n := range *kills {
		r.record(5, 20<<10)
		ship := exec.Command("cis490", "ship", "--config", r.path("lab.toml"))
		ship.Stderr = r.create("ship.log")
		r.must(ship.Start())
		// It starts, pings and then works: most kills hit it at work.
		before := r.stored()
		r.until("it ships, or is about to", func() bool { return r.stored() > before || rand.IntN(20) == 0 })
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		r.must(ship.Process.Kill())
		_ = ship.Wait() // killed
		if left, _ := filepath.Glob(filepath.Join(r.path("data"), "outbox", "*")); len(left) > 0 {
			amid++
		}
		if n%10 == 3 {
			r.must(r.serving.Process.Kill())
			_ = r.serving.Wait() // killed
			r.serve()
			restarts++
		}
	}
	var out []byte
	r.until("all is shipped", func() bool {
		var err error
		out, err = exec.Command("cis490", "ship", "--once", "--config", r.path("lab.toml")).Output()
		return err == nil
	})
	t.Logf("%d kills of the shipper, %d in the midst of work, %d of the receiver; at last: %s", *kills, amid, restarts, bytes.TrimSpace(out))
	answer, err := exec.Command("cis490", "reconcile", "--json", "--config", r.path("lab.toml")).Output()
	r.must(err)
	var got struct{ Shipped, Stored int }
	r.must(json.Unmarshal(answer, &got))
	if got.Shipped != r.recorded || got.Stored != r.recorded {
		t.Errorf("reconcile says %s, want %d episodes on both sides", answer, r.recorded)
	}
	rows := bytes.Count([]byte(r.read("rx/index.jsonl")), []byte("\n"))
	if rows != r.recorded || r.stored() != r.recorded {
		t.Errorf("the receiver has %d rows and %d files, want %d", rows, r.stored(), r.recorded)
	}
	for _, dir := range []string{"episodes", "outbox", "quarantine"} {
		left, err := os.ReadDir(filepath.Join(r.path("data"), dir))
		r.must(err)
		if len(left) > 0 {
			t.Errorf("%d names are left in %s, first %s", len(left), dir, left[0].Name())
		}
	}
}

// stored counts the receiver's tarballs.
func (r *site) stored() int {
	all, err := filepath.Glob(filepath.Join(r.path("rx"), "episodes", siteHost, "*"))
	r.must(err)
	return len(all)
}
