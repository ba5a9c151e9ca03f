package server_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/wire"
)

// TestQuota_Stored: a host over its quota must wait, also after a restart; other hosts
// are not affected, and duplicates of its stored episodes are still answered.
func TestQuota_Stored(t *testing.T) { onEach(t, quotaStored) }

func quotaStored(t *testing.T, on func(*harness)) {
	var behind atomic.Int64
	r := newHarness(t, on, func(r *harness) {
		r.config.Limits.HostQuota = 300 << 10
		r.now = func() time.Time { return time.Now().Add(-time.Duration(behind.Load())) }
	})
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	body := strings.Repeat("q", 200<<10)
	answers := func(h *host, id ident.EpisodeID, content string, status int, kind wire.Kind) {
		t.Helper()
		if got, k, detail := h.do(h.request(id, content)); got != status || k != kind {
			t.Errorf("%s %s: %d %s %s, want %d %s", h.name, id, got, k, detail, status, kind)
		}
	}
	// What is refused for another reason uses nothing up.
	a.do(a.request(ep1, body, set(wire.HeaderDigest, string(digestOf(nil)))))
	answers(a, ep1, body, 201, "")
	answers(a, ep2, body, 507, wire.Quota)
	answers(a, ep3, "small", 201, "")
	answers(a, ep1, body, 200, "")
	answers(b, ep2, body, 201, "")
	if n := len(r.files()); n != 3 {
		t.Errorf("%d files", n)
	}
	// At the second start the clock is behind all rows, as on a machine without a hardware
	// clock before it is synchronized.
	for _, d := range []time.Duration{0, time.Hour} {
		r.stop()
		behind.Store(int64(d))
		r.start()
		r.eventually("what is stored is counted", func() bool {
			// With a wrong digest, because a request may come too early to be refused.
			status, kind, _ := a.do(a.request(ep2, strings.Repeat("r", 100<<10), set(wire.HeaderDigest, string(digestOf(nil)))))
			return status == 507 && kind == wire.Quota
		})
	}
	answers(b, ep3, "small", 201, "")
}

// TestQuota_Hourly: what is taken of a host in an hour flows back with time, also
// after a restart.
func TestQuota_Hourly(t *testing.T) { onEach(t, quotaHourly) }

func quotaHourly(t *testing.T, on func(*harness)) {
	var ahead atomic.Int64
	r := newHarness(t, on, func(r *harness) {
		r.config.Limits.HostHourly = 100 << 10
		r.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	a, b := r.enrol("lab-a"), r.enrol("lab-b")
	body := strings.Repeat("h", 80<<10)
	for range 3 { // refused otherwise: nothing is used up
		a.do(a.request(ep1, body, set(wire.HeaderDigest, string(digestOf(nil)))))
	}
	for _, id := range []ident.EpisodeID{ep1, ep2} {
		if status, _, detail := a.do(a.request(id, body)); status != 201 {
			t.Errorf("%s: %d %s", id, status, detail)
		}
	}
	res, err := a.client.Do(a.request(ep3, body))
	must(t, err)
	p, err := wire.ReadLocalProblem(res)
	must(t, err)
	must(t, res.Body.Close())
	if wait := res.Header.Get("Retry-After"); res.StatusCode != http.StatusTooManyRequests || p.Kind != wire.Busy || wait < "2150" ||
		wait > "2165" {
		t.Errorf("over the hour's bytes: %d %s, Retry-After %s", res.StatusCode, p.Kind, wait)
	}
	if status, _, _ := b.do(b.request(ep3, body)); status != 201 {
		t.Errorf("another host: %d", status)
	}
	if n := len(r.files()); n != 3 {
		t.Errorf("%d files", n)
	}
	r.stop()
	r.start()
	r.eventually("what was taken before the start is counted", func() bool {
		status, kind, _ := a.do(a.request(ep3, body, set(wire.HeaderDigest, string(digestOf(nil)))))
		return status == http.StatusTooManyRequests && kind == wire.Busy
	})
	ahead.Store(int64(37 * time.Minute))
	if status, _, detail := a.do(a.request(ep3, body)); status != 201 {
		t.Errorf("37 minutes later: %d %s", status, detail)
	}
}
