// Package metrics exports serve's metrics for Prometheus: requests and their results, and
// the state of each host.
//
// Counters begin at zero with the process. All other values are read at each scrape, so
// that the package stores nothing. The number of series is bounded: routes, statuses and
// kinds are constants of this program, hosts are those that serve knows, and text from a
// host is never a label.
package metrics

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cis490/internal/listen"
	"cis490/internal/version"
	"cis490/internal/wire"
	"cis490/receiver/cluster"
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
)

const namespace = "cis490"

// Options are the sources of the values that are read at a scrape.
type Options struct {
	Build    version.Info
	Contacts func() contacts.Contacts
	NotReady func() []string // why episodes cannot be accepted; empty: ready
	// Gate returns whether the gate is enabled, and how many commits it accepts, or an
	// error before it has a list.
	Gate        func() (enabled bool, accepted int, err error)
	Free        func() (int64, error) // bytes on the disk of the data
	Reserve     int64                 // bytes that stay free
	Certificate func() time.Time      // expiry of the server certificate; zero: behind a proxy
	FleetCheck  func() (fleet.Last, error)
	Uploads     func() int // in progress
	Connections func() listen.Stats
	// Storage has a function called after each request to the object store; nil: there is none.
	Storage func(func(op, outcome string, took time.Duration))
	// Receivers returns all receivers, if there are several.
	Receivers func() []cluster.Member
	// Lag returns how late followers of the index see rows; nil: they see each at once.
	Lag func() (time.Duration, error)
	Log *slog.Logger
}

// Metrics counts what serve does. Its methods may be called from many goroutines.
type Metrics struct {
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	ingest       *prometheus.CounterVec
	bytes        prometheus.Counter
	authFailures *prometheus.CounterVec
	handler      http.Handler
	kinds        []wire.Kind
}

// New returns metrics in a registry of their own.
func New(o Options) *Metrics {
	if o.Receivers == nil {
		o.Receivers = func() []cluster.Member { return nil }
	}
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
	}
	m := &Metrics{
		requests: prometheus.NewCounterVec(opts("requests_total", "Requests by route and status."), []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds", Help: "Duration of requests, their bodies included.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300},
		}, []string{"route"}),
		ingest: prometheus.NewCounterVec(
			opts("ingest_total", "PUTs of episodes by outcome: stored, already known, or the kind of refusal."), []string{"outcome"}),
		bytes: prometheus.NewCounter(opts("ingest_bytes_total", "Bytes read from the bodies of PUTs of episodes.")),
		authFailures: prometheus.NewCounterVec(
			opts("auth_failures_total", "Requests that were not authenticated, by kind; verified: the certificate chain is valid."),
			[]string{"kind", "verified"}),
	}
	for _, a := range wire.Answers() {
		m.kinds = append(m.kinds, a.Kind)
	}
	// Outcomes start at 0, so that a rate can be computed from the first one on.
	for _, outcome := range []string{"stored", "known"} {
		m.ingest.WithLabelValues(outcome)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.requests, m.seconds, m.ingest, m.bytes, m.authFailures, newFacts(o),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Storage != nil {
		storage := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "store_request_seconds",
			Help:    "How long requests to the object store took, repetitions included, by outcome.",
			Buckets: []float64{.002, .01, .05, .25, 1, 5, 30, 300},
		}, []string{"op", "outcome"})
		r.MustRegister(storage)
		o.Storage(func(op, outcome string, took time.Duration) {
			storage.WithLabelValues(op, outcome).Observe(took.Seconds())
		})
	}
	m.handler = promhttp.HandlerFor(
		r, promhttp.HandlerOpts{ErrorLog: errorLog{o.Log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4},
	)
	return m
}

// Request counts a finished request. route is the pattern that it matched.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Ingest counts a PUT of an episode by its status and, if it was refused, the kind of
// refusal. read is how many bytes of its body were read.
func (m *Metrics) Ingest(status int, kind wire.Kind, read int64) {
	outcome := m.known(kind)
	switch {
	case kind != "":
	case status == http.StatusCreated:
		outcome = "stored"
	default:
		outcome = "known"
	}
	m.ingest.WithLabelValues(outcome).Inc()
	m.bytes.Add(float64(read))
}

// AuthFailed counts a request that was not authenticated.
func (m *Metrics) AuthFailed(kind wire.Kind, verified bool) {
	m.authFailures.WithLabelValues(m.known(kind), strconv.FormatBool(verified)).Inc()
}

func (m *Metrics) known(k wire.Kind) string {
	if !slices.Contains(m.kinds, k) {
		k = wire.Broken
	}
	return string(k)
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// errorLog logs the library's errors.
type errorLog struct{ log *slog.Logger }

// Println logs an error of a scrape.
func (l errorLog) Println(v ...any) { l.log.Warn("scrape is incomplete", "err", v) }
