package metrics_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cis490/internal/ident"
	"cis490/internal/listen"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
	"cis490/receiver/metrics"
)

func options() metrics.Options {
	at := time.Unix(1_800_000_000, 0)
	return metrics.Options{
		Build: version.Info{Version: "1.0.0"}, NotReady: func() []string { return nil }, Reserve: 7, Uploads: func() int { return 3 },
		Gate: func() (bool, int, error) { return true, 2, nil },
		Free: func() (int64, error) { return 9, nil },
		Connections: func() listen.Stats {
			return listen.Stats{Unverified: 5, EvictedUnverified: 6, Refused: 7, HandshakesTooLong: 8}
		},
		Certificate: func() time.Time { return at },
		FleetCheck: func() (fleet.Last, error) {
			return fleet.Last{At: at, Open: []fleet.Alert{{Symptom: fleet.Silent}, {Symptom: fleet.Silent}, {Symptom: "made-up"}}}, nil
		},
		Contacts: func() contacts.Contacts {
			return contacts.Contacts{
				Hosts: map[ident.Host]*contacts.Contact{"lab-01": {LastContact: at, LastPing: at, Queue: wire.Queue{Waiting: 4}, Version: `evil"}`}},
			}
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics_ReadsAndCounts(t *testing.T) {
	m := metrics.New(options())
	m.Request("GET /v1/x", 200, time.Second)
	m.Request("", 404, time.Second)
	m.Ingest(201, "", 100)
	m.Ingest(200, "", 0)
	m.Ingest(412, wire.Gated, 0)
	m.AuthFailed(wire.CertExpired, true)
	got := scrape(t, m)
	for _, want := range []string{
		`cis490_requests_total{code="200",route="GET /v1/x"} 1`, `cis490_requests_total{code="404",route="none"} 1`,
		`cis490_ingest_total{outcome="stored"} 1`, `cis490_ingest_total{outcome="known"} 1`, `cis490_ingest_total{outcome="gate"} 1`,
		`cis490_ingest_bytes_total 100`, `cis490_auth_failures_total{kind="certificate-expired",verified="true"} 1`,
		`cis490_ready 1`, `cis490_gate_commits 2`, `cis490_disk_free_bytes 9`, `cis490_uploads 3`, `cis490_alerts_open{symptom="silent"} 2`,
		`cis490_host_last_contact_timestamp_seconds{host="lab-01"} 1.8e+09`, `cis490_host_queue{host="lab-01",state="waiting"} 4`,
		`cis490_fleet_check_timestamp_seconds 1.8e+09`, `go_goroutines`,
		`cis490_connections{state="unverified"} 5`, `cis490_connections_evicted_total{state="unverified"} 6`,
		`cis490_connections_refused_total{reason="rate"} 7`, `cis490_tls_handshake_failures_total{reason="too_long"} 8`,
		`process_resident_memory_bytes`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	for _, bad := range []string{"evil", "made-up", "last_accepted_timestamp_seconds{"} {
		if strings.Contains(got, bad) {
			t.Errorf("holds %s", bad)
		}
	}
}

// Whatever comes in, the number of series stays what the program's own words
// make it.
func TestMetrics_Bounded(t *testing.T) {
	m := metrics.New(options())
	before := strings.Count(scrape(t, m), "\n")
	for i := range 10_000 {
		m.Ingest(400, wire.Kind(fmt.Sprint("kind-", i)), 0)
		m.AuthFailed(wire.Kind(fmt.Sprint("kind-", i)), i%2 == 0)
	}
	if after := strings.Count(scrape(t, m), "\n"); after > before+5 {
		t.Errorf("%d lines became %d", before, after)
	}
}

// A figure that cannot be had does not take the others with it.
func TestMetrics_OneLostFigure(t *testing.T) {
	o := options()
	o.Free = func() (int64, error) { return 0, errors.New("no") }
	o.FleetCheck = func() (fleet.Last, error) { return fleet.Last{}, errors.New("no") }
	o.Gate = func() (bool, int, error) { return false, 0, errors.New("not loaded") }
	got := scrape(t, metrics.New(o))
	if strings.Contains(got, "disk_free_bytes 0") || strings.Contains(got, "gate_enabled 0") || !strings.Contains(got, "cis490_host_queue{") {
		t.Errorf("scrape:\n%s", got)
	}
}
