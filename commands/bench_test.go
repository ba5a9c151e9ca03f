package commands_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cis490/internal/wire"
)

// BenchmarkShip compares shipping, from directories to receipts, with the commands that a
// person would type: tar, zstd and curl, with digest and length precomputed, and the
// priority of the shipper's unit. Each round runs both; ratio is how many times faster ship
// is, cpu-ratio how many times less CPU it and the receiver need, which is more reliable on
// a busy machine. peak-MiB is the peak memory of ship.
func BenchmarkShip(b *testing.B) {
	many, large := 2000, int64(1<<30)
	if testing.Short() {
		many, large = 200, 64<<20
	}
	for _, c := range []struct {
		name     string
		episodes int
		size     int64
	}{{"large", 1, large}, {"small", many, 200 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			r := newSite(b)
			var ship, typed cost
			for b.Loop() {
				r.record(c.episodes, c.size)
				script := r.script()
				typed.add(r.timed("sh", script))
				r.forget()
				ship.add(r.timed("cis490", "ship", "--once", "--config", r.path("lab.toml")))
				if !strings.Contains(ship.said, fmt.Sprintf("%d shipped, 0 quarantined, 0 left", c.episodes)) {
					b.Fatal(ship.said)
				}
				r.forget()
			}
			b.ReportMetric(typed.time.Seconds()/float64(b.N), "typed-s")
			b.ReportMetric(ship.time.Seconds()/float64(b.N), "ship-s")
			b.ReportMetric(typed.time.Seconds()/ship.time.Seconds(), "ratio")
			b.ReportMetric(typed.cpu.Seconds()/ship.cpu.Seconds(), "cpu-ratio")
			b.ReportMetric(float64(ship.peak)/1024, "peak-MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func (c *cost) add(o cost) {
	c.time += o.time
	c.cpu += o.cpu
	c.peak = max(c.peak, o.peak)
	c.said = o.said
}

// BenchmarkShipIdle measures an idle shipper with 30,000 retired and 1,000 held episodes:
// cpu-% of one core.
func BenchmarkShipIdle(b *testing.B) {
	r := newSite(b)
	r.record(1000, 1<<10)
	data := r.path("data")
	held := strings.Repeat("2", 40)
	r.restamp(held)
	r.must(os.MkdirAll(filepath.Join(data, "shipped"), 0o755))
	var receipts bytes.Buffer
	for n := range 30000 {
		id := fmt.Sprintf("00J%023d", n)
		r.must(os.WriteFile(filepath.Join(data, "shipped", id+wire.TarballSuffix), nil, 0o644))
		_, _ = fmt.Fprintf(&receipts, `{"at":"2026-01-01T00:00:00Z","episode":%q,"sha256":%q,"size":0,"store_id":"x"}`+"\n", id,
			strings.Repeat("0", 64))
	}
	r.must(os.WriteFile(filepath.Join(data, "shipped", "receipts.jsonl"), receipts.Bytes(), 0o644))
	// Reconciled just now: the daily comparison does not count as idle.
	store := strings.TrimSpace(r.read("rx/store_id"))
	r.must(os.WriteFile(filepath.Join(data, "shipper.json"), fmt.Appendf(nil, `{"store_id":%q,"reconciled_at":%q}`, store,
		time.Now().Format(time.RFC3339)), 0o644))
	cmd := exec.Command("cis490", "ship", "--config", r.path("lab.toml"))
	cmd.Stderr = r.create("ship.log")
	r.must(cmd.Start())
	defer func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }()
	r.until("the commit is held", func() bool { return strings.Contains(r.read("data/shipper.json"), `"holds"`) })
	settle, watched := 5*time.Second, 3*time.Minute
	for b.Loop() {
		time.Sleep(settle)
		before := r.cpu(cmd.Process.Pid)
		time.Sleep(watched)
		b.ReportMetric(100*(r.cpu(cmd.Process.Pid)-before).Seconds()/watched.Seconds(), "cpu-%")
		b.ReportMetric(float64(r.rss(cmd.Process.Pid))/1024, "rss-MiB")
	}
	b.ReportMetric(0, "ns/op")
}
