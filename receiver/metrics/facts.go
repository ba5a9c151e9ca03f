package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cis490/internal/listen"
	"cis490/receiver/fleet"
)

// facts collects the values that are read at each scrape.
type facts struct {
	o    Options
	desc map[string]*prometheus.Desc
}

func newFacts(o Options) *facts {
	f := &facts{o: o, desc: map[string]*prometheus.Desc{}}
	for _, d := range []struct {
		name, help string
		labels     []string
	}{
		{"build_info", "The build of this receiver; always 1.", []string{"version", "commit"}},
		{"ready", "1 if episodes can be accepted.", nil},
		{"gate_enabled", "1 if the gate refuses unknown commits.", nil},
		{"gate_commits", "Commits that the gate accepts.", nil},
		{"disk_free_bytes", "Free space on the disk of the data.", nil},
		{"disk_reserve_bytes", "Space that stays free.", nil},
		{"receiver_ready", "1 for each of several receivers that accepts episodes.", []string{"receiver"}},
		{"receiver_silent_seconds", "How long ago a receiver gave a sign of life.", []string{"receiver"}},
		{"receiver_certificate_expiry_timestamp_seconds", "When a receiver's server certificate expires.", []string{"receiver"}},
		{"lease_held", "1 for work that only one receiver may do, and the receiver that does it.", []string{"lease", "receiver"}},
		{"feed_lag_seconds", "Age of the oldest row in the database that pages do not show yet.", nil},
		{"uploads", "Uploads in progress.", nil},
		{"connections", "Open connections by state; transfer: an unknown client downloads a release.", []string{"state"}},
		{"connections_evicted_total", "Connections that were closed for others, by state.", []string{"state"}},
		{"connections_refused_total", "Connections that were refused before their TLS handshake, by reason.", []string{"reason"}},
		{"tls_handshake_failures_total", "TLS handshakes that were not completed, by reason.", []string{"reason"}},
		{"server_certificate_expiry_timestamp_seconds", "When the server certificate expires.", nil},
		{"fleet_check_timestamp_seconds", "When fleet-check last ran.", nil},
		{"alerts_open", "Open alerts by symptom, without silenced ones.", []string{"symptom"}},
		{"hosts", "Hosts that have contacted the receiver.", nil},
		{"unknown_client_requests_total", "Rejected requests of clients that are not in the roster.", nil},
		{"host_last_contact_timestamp_seconds", "When the host last contacted the receiver.", []string{"host"}},
		{"host_last_accepted_timestamp_seconds", "When an episode of the host was last accepted.", []string{"host"}},
		{"host_certificate_expiry_timestamp_seconds", "When the host's last used certificate expires.", []string{"host"}},
		{"host_queue", "Episodes on the host by state, by its last ping.", []string{"host", "state"}},
		{"host_queue_bytes", "Bytes of episodes on the host, by its last ping.", []string{"host"}},
		{"host_clock_offset_seconds", "The host's clock minus the receiver's.", []string{"host"}},
		{"host_failing_checks", "Failing hard checks of the host.", []string{"host"}},
	} {
		f.desc[d.name] = prometheus.NewDesc(namespace+"_"+d.name, d.help, d.labels, nil)
	}
	return f
}

// Describe sends the descriptions of all metrics.
func (f *facts) Describe(out chan<- *prometheus.Desc) {
	for _, d := range f.desc {
		out <- d
	}
}

// Collect sends the present values.
func (f *facts) Collect(out chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(f.desc[name], prometheus.GaugeValue, v, labels...)
	}
	moment := func(name string, t time.Time, labels ...string) {
		if !t.IsZero() {
			gauge(name, float64(t.UnixMilli())/1000, labels...)
		}
	}
	lost := func(name string, err error) { out <- prometheus.NewInvalidMetric(f.desc[name], err) }

	gauge("build_info", 1, f.o.Build.Version, string(f.o.Build.Commit))
	gauge("ready", truth(len(f.o.NotReady()) == 0))
	if enabled, accepted, err := f.o.Gate(); err == nil { // without a list, ready is 0
		gauge("gate_enabled", truth(enabled))
		gauge("gate_commits", float64(accepted))
	}
	if free, err := f.o.Free(); err != nil {
		lost("disk_free_bytes", err)
	} else {
		gauge("disk_free_bytes", float64(free))
	}
	gauge("disk_reserve_bytes", float64(f.o.Reserve))
	if f.o.Lag != nil {
		if lag, err := f.o.Lag(); err != nil {
			lost("feed_lag_seconds", err)
		} else {
			gauge("feed_lag_seconds", lag.Seconds())
		}
	}
	gauge("uploads", float64(f.o.Uploads()))
	f.connections(out, f.o.Connections())
	moment("server_certificate_expiry_timestamp_seconds", f.o.Certificate())
	if last, err := f.o.FleetCheck(); err != nil {
		lost("fleet_check_timestamp_seconds", err)
	} else {
		moment("fleet_check_timestamp_seconds", last.At)
		open := map[string]int{}
		for _, a := range last.Open {
			if a.Notify() {
				open[a.Symptom]++
			}
		}
		for _, symptom := range fleet.Symptoms() {
			gauge("alerts_open", float64(open[symptom]), symptom)
		}
	}
	for _, m := range f.o.Receivers() {
		gauge("receiver_ready", truth(m.Ready && m.Fresh()), m.Name)
		gauge("receiver_silent_seconds", m.Silent.Seconds(), m.Name)
		moment("receiver_certificate_expiry_timestamp_seconds", m.CertificateUntil, m.Name)
		for _, work := range m.Does {
			gauge("lease_held", 1, string(work), m.Name)
		}
	}
	book := f.o.Contacts()
	gauge("hosts", float64(len(book.Hosts)))
	out <- prometheus.MustNewConstMetric(f.desc["unknown_client_requests_total"], prometheus.CounterValue, float64(book.UnknownClientCount))
	for name, c := range book.Hosts {
		h := string(name)
		moment("host_last_contact_timestamp_seconds", c.LastContact, h)
		moment("host_last_accepted_timestamp_seconds", c.LastAccepted, h)
		moment("host_certificate_expiry_timestamp_seconds", c.CertificateUntil, h)
		if c.LastPing.IsZero() {
			continue
		}
		gauge("host_queue", float64(c.Queue.Waiting), h, "waiting")
		gauge("host_queue", float64(c.Queue.Held), h, "held")
		gauge("host_queue", float64(c.Queue.Quarantined), h, "quarantined")
		gauge("host_queue_bytes", float64(c.Queue.Bytes), h)
		gauge("host_clock_offset_seconds", c.ClockOffset, h)
		gauge("host_failing_checks", float64(len(c.Failing)), h)
	}
}

// connections sends the listener's counts.
func (f *facts) connections(out chan<- prometheus.Metric, s listen.Stats) {
	for _, m := range []struct {
		name, label string
		kind        prometheus.ValueType
		value       float64
	}{
		{"connections", "unverified", prometheus.GaugeValue, float64(s.Unverified)},
		{"connections", "verified", prometheus.GaugeValue, float64(s.Verified)},
		{"connections", "transfer", prometheus.GaugeValue, float64(s.Transfers)},
		{"connections_evicted_total", "unverified", prometheus.CounterValue, float64(s.EvictedUnverified)},
		{"connections_evicted_total", "verified", prometheus.CounterValue, float64(s.EvictedVerified)},
		{"connections_refused_total", "rate", prometheus.CounterValue, float64(s.Refused)},
		{"tls_handshake_failures_total", "too_long", prometheus.CounterValue, float64(s.HandshakesTooLong)},
		{"tls_handshake_failures_total", "timeout", prometheus.CounterValue, float64(s.HandshakesTimedOut)},
		{"tls_handshake_failures_total", "broken", prometheus.CounterValue, float64(s.HandshakesBroken)},
	} {
		out <- prometheus.MustNewConstMetric(f.desc[m.name], m.kind, m.value, m.label)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
