package web_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/local"
	"cis490/receiver/roster"
)

// large is a receiver of 2,000 hosts, a tenth of them sick, and an index of so
// many rows over a month; the host's text is as long as it can be.
func large(t testing.TB, rows int) *harness {
	t.Helper()
	r := newHarness(t)
	const hosts = 2000
	text := fmt.Sprintf("%0200d", 7)
	var open []fleet.Alert
	for i := range hosts {
		name := ident.Host(fmt.Sprintf("lab-%04d", i))
		r.hosts = append(r.hosts, roster.Host{Name: name, State: roster.Active, CertExpires: r.now.Add(300 * time.Hour)})
		r.book.Hosts[name] = &contacts.Contact{
			LastContact: r.now,
			LastPing:    r.now,
			Version:     text[:80],
			Queue:       wire.Queue{Waiting: i, Held: 1, Quarantined: 2},
		}
		if i%10 == 0 {
			open = append(
				open,
				fleet.Alert{
					Host:    string(name),
					Symptom: "silent",
					Since:   r.now.Add(-time.Hour),
					Reason:  text,
					Detail:  text,
					Fix:     "on " + string(name) + ": " + text,
				},
			)
		}
	}
	r.alerts(open...)
	f, err := os.Create(filepath.Join(r.dir, local.IndexFile))
	must(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range rows {
		row := r.row(ident.Host(fmt.Sprintf("lab-%04d", i%hosts)), i, time.Duration(rows-i)*(30*24*time.Hour/time.Duration(rows)))
		_, err := fmt.Fprintf(w, `{"v":1,"received_at":%q,"host":%q,"episode":%q,"sha256":%q,"size":%d,"commit":%q}`+"\n",
			row.ReceivedAt.Format(time.RFC3339Nano), row.Host, row.Episode, row.Digest, row.Size, row.Commit)
		must(t, err)
	}
	must(t, w.Flush())
	must(t, f.Close())
	return r
}

// ask calls a page's handler as serve does and returns the size of its answer.
func (r *harness) ask(h func(http.ResponseWriter, *http.Request) error, path string) int {
	r.t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("Authorization", "Bearer s3cret")
	w := httptest.NewRecorder()
	if err := h(w, req); err != nil || w.Code != http.StatusOK {
		r.t.Fatalf("%s: %d, %v", path, w.Code, err)
	}
	return w.Body.Len()
}

// A page of the largest fleet stays below a megabyte, its longest words included.
func TestFleet_LargeFleetIsOnePage(t *testing.T) {
	r := large(t, 5000).start()
	r.follow()
	h := r.site.Routes()["GET /{$}"]
	for _, path := range []string{"/", "/?state=sick", "/?from=1800"} {
		if n := r.ask(h, path); n > 1<<20 {
			t.Errorf("%s has %d bytes", path, n)
		}
	}
}

// BenchmarkFleetPage measures the pages of 2,000 hosts and 10 million rows, and
// fails where the fleet's takes more than 100 ms or 1 MiB; with -short there are
// 100,000 rows. follow-s is how long the last 24 hours take to be counted at a
// start, beside the work.
func BenchmarkFleetPage(b *testing.B) {
	rows := 10_000_000
	if testing.Short() {
		rows = 100_000
	}
	r := large(b, rows).start()
	began := time.Now()
	r.follow()
	follow := time.Since(began)
	routes := r.site.Routes()
	for _, c := range []struct{ name, pattern, path string }{
		{"fleet", "GET /{$}", "/"},
		{"episodes", "GET /episodes", "/episodes"},
		{"episodes-of-host", "GET /episodes", "/episodes?host=lab-0007"},
		{"episodes-by-digest", "GET /episodes", "/episodes?q=00000000000000000000000000000000000000000000000000000000000f0000"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var longest time.Duration
			size := 0
			for b.Loop() {
				r.now = r.now.Add(2 * time.Millisecond) // the model is rebuilt every second, as for a reader
				if c.name == "fleet" {
					r.now = r.now.Add(2 * time.Second)
				}
				began := time.Now()
				size = r.ask(routes[c.pattern], c.path)
				longest = max(longest, time.Since(began))
			}
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
			b.ReportMetric(float64(size), "bytes")
			b.ReportMetric(follow.Seconds(), "follow-s")
			if mean := b.Elapsed() / time.Duration(b.N); c.name == "fleet" && (mean > 100*time.Millisecond || size > 1<<20) {
				b.Errorf("the fleet page takes %s and %d bytes", mean, size)
			}
		})
	}
}
