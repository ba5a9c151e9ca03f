//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cis490/e2e/lab"
)

// TestPrometheus scrapes the receiver with Debian's Prometheus, and runs every query of
// the Grafana dashboard in docs/. Each returns a series, except queries for events that
// did not happen.
func TestPrometheus(t *testing.T) {
	inLane(t)
	f := newFleet(t, "lab-01")
	f.waitAccepted(f.hosts[0], 1, time.Minute)
	f.rx.Run("systemctl start cis490-fleet-health")

	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("prometheus.yml", fmt.Sprintf(`scrape_configs:
  - job_name: cis490
    scrape_interval: 1s
    scheme: https
    authorization:
      credentials_file: %s
    tls_config:
      ca_file: %s
      server_name: collector.lab
    static_configs:
      - targets: ["%s:8443"]
`, write("operator", f.rx.Run("cat /etc/cis490/operator")), write("ca.crt", f.rx.Read("/var/lib/cis490-authority/trust.pem")), f.rx.Addr))
	server := f.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:9090")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatalf("start prometheus (apt-get install prometheus): %v", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = log.Close()
	})
	ask := func(query string) int { return countSeries(t, f.Lab, query) }
	for end := time.Now().Add(2 * time.Minute); ask(`up{job="cis490"} == 1`) == 0; time.Sleep(time.Second) {
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("prometheus does not scrape:\n%s", b)
		}
	}
	time.Sleep(5 * time.Second) // a rate needs two samples
	queries := dashboardQueries(t)
	if len(queries) < 10 {
		t.Fatalf("the dashboard has %d queries, want at least 10", len(queries))
	}
	quiet := regexp.MustCompile(`cis490_alerts_open|cis490_auth_failures_total`)
	for _, q := range queries {
		if n := ask(q); n == 0 && !quiet.MatchString(q) {
			t.Errorf("no series for %s", q)
		}
	}
	if n := ask(`cis490_host_last_contact_timestamp_seconds{host="lab-01"} > time() - 600`); n != 1 {
		t.Errorf("%d series of lab-01, want 1", n)
	}
	if n := ask(`cis490_ingest_total{outcome="stored"} >= 1`); n != 1 {
		t.Errorf("%d series of stored episodes, want 1", n)
	}
}

// countSeries returns the number of series of a query.
func countSeries(t *testing.T, l *lab.Lab, query string) int {
	t.Helper()
	out, err := l.Command("curl", "-sS", "--max-time", "10", "--data-urlencode", "query="+query, "http://127.0.0.1:9090/api/v1/query").Output()
	if err != nil {
		return 0 // Prometheus is starting
	}
	var a struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(out, &a); err != nil || a.Status != "success" {
		if strings.Contains(a.Error, "parse error") {
			t.Errorf("%s: %s", query, a.Error)
		}
		return 0
	}
	return len(a.Data.Result)
}

// dashboardQueries returns the queries of the Grafana dashboard.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, strings.ReplaceAll(q.Expr, "$__rate_interval", "10s"))
		}
	}
	return all
}
