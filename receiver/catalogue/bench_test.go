package catalogue

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"cis490/internal/episode"
	"cis490/internal/ident"
)

// BenchmarkCatalogue fills a catalogue with CIS490_BENCH_ROWS episodes of 2000 hosts, a
// million by default, and measures the answers.
func BenchmarkCatalogue(b *testing.B) {
	total, err := strconv.Atoi(os.Getenv("CIS490_BENCH_ROWS"))
	if err != nil {
		total = 1_000_000
	}
	c, err := Open(filepath.Join(b.TempDir(), "catalogue.db"), "bench", episode.FormatLimits())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	start := time.Now()
	rows := make([]Row, 0, batch)
	for i := range total {
		if rows = append(rows, benchRow(i)); len(rows) == batch || i == total-1 {
			if err := c.put(rows, time.Unix(int64(i), 0)); err != nil {
				b.Fatal(err)
			}
			rows = rows[:0]
		}
	}
	size, err := os.Stat(c.db.Path())
	if err != nil {
		b.Fatal(err)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.Logf("%d rows written in %s, %d MiB on the disk, %d MiB of memory", total, time.Since(start).Round(time.Millisecond), size.Size()>>20,
		(mem.Sys-mem.HeapReleased)>>20)
	middle := benchRow(total / 2)
	for _, q := range []Query{
		{Profile: "profile-3", Newest: true},
		{Host: middle.Host, Newest: true},
		{Host: middle.Host, Profile: "profile-3", Class: "malicious"},
		{Commit: middle.Commit},
		{Digest: middle.Digest, Limit: 10},
		{From: middle.Episode.Time(), Verdict: "failed"},
		{State: Refused},
		{},
	} {
		b.Run(q.String(), func(b *testing.B) {
			n := 0
			for b.Loop() {
				p, err := c.Find(q)
				if err != nil {
					b.Fatal(err)
				}
				n = len(p.Rows)
			}
			b.ReportMetric(float64(n), "rows")
		})
	}
}

func benchRow(i int) Row {
	at := time.UnixMilli(1_700_000_000_000 + int64(i)*200)
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(at))
	copy(id[6:], strconv.Itoa(i))
	mixed := uint64(i) * 0x9e3779b97f4a7c15
	digest := fmt.Sprintf("%016x%048d", mixed, i)
	r := Row{
		Host: ident.Host(fmt.Sprintf("lab-%04d", mixed%2000)), Episode: ident.EpisodeID(id.String()), Digest: ident.Digest(digest),
		Size: 40_000 + int64(mixed%10_000), Commit: ident.Commit(hex.EncodeToString([]byte(fmt.Sprintf("%020d", i/200_000)))),
		ReceivedAt: at, State: OK, Profile: fmt.Sprintf("profile-%d", mixed>>20%7), Verdict: "accepted",
		Class: []string{"benign", "malicious"}[mixed>>30%2], Start: at, End: at.Add(6 * time.Second),
		Phases: []string{"clean", "hashing", "dormant"}, Rows: map[string]int{"proc": 60, "pressure": 12},
	}
	if mixed>>40%20 == 0 {
		r.Verdict = "failed"
	}
	return r
}
