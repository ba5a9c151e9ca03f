// Package metrics is what serve tells Prometheus: how much came in and how it was
// answered, and what is known of each host.
//
// Counters begin at zero with the process, as Prometheus expects; the rest is
// looked up at each scrape, so nothing here can be lost or grow old. The number
// of series is bounded: routes, statuses and kinds are this program's own words,
// hosts are those that serve knows, and nothing that a host said is ever a label.
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
	"cis490/receiver/contacts"
	"cis490/receiver/fleet"
)

const namespace = "cis490"

// Options say where figures are looked up at a scrape.
type Options struct {
	Build    version.Info
	Contacts func() contacts.Contacts
	Missing  func() []string // what keeps the receiver from taking episodes
	// Gate returns whether the gate is enabled, and how many commits it accepts;
	// its error means that it has no list yet.
	Gate        func() (enabled bool, accepted int, err error)
	Free        func() (int64, error) // bytes on the data's disk
	Reserve     int64                 // bytes of them that stay free
	Certificate func() time.Time      // end of the server certificate; zero: not ours
	FleetCheck  func() (fleet.Last, error)
	Uploads     func() int // in progress
	Connections func() listen.Stats
	// Storage has a function called after each request to the object store; nil: there is none.
	Storage func(func(op, outcome string, took time.Duration))
	Log     *slog.Logger
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
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "requests_total", Help: "Requests by route and status."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds", Help: "How long requests took, their bodies included.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 300},
		}, []string{"route"}),
		ingest:       prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "ingest_total", Help: "PUTs of episodes by outcome: stored, known already, or the kind of refusal."}, []string{"outcome"}),
		bytes:        prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "ingest_bytes_total", Help: "Bytes of bodies of PUTs of episodes, as far as they were read."}),
		authFailures: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "auth_failures_total", Help: "Requests that were not authenticated, by kind; verified: the certificate chain is valid."}, []string{"kind", "verified"}),
	}
	for _, a := range wire.Answers() {
		m.kinds = append(m.kinds, a.Kind)
	}
	// What was never seen is told as 0, so that a rate can be asked for.
	for _, outcome := range []string{"stored", "known"} {
		m.ingest.WithLabelValues(outcome)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.requests, m.seconds, m.ingest, m.bytes, m.authFailures, newFacts(o),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Storage != nil {
		storage := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "store_request_seconds", Help: "How long requests to the object store took, repetitions included, by outcome.",
			Buckets: []float64{.002, .01, .05, .25, 1, 5, 30, 300},
		}, []string{"op", "outcome"})
		r.MustRegister(storage)
		o.Storage(func(op, outcome string, took time.Duration) {
			storage.WithLabelValues(op, outcome).Observe(took.Seconds())
		})
	}
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: errorLog{o.Log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
	return m
}

// Request counts a request that ended. route is the pattern that it matched.
func (m *Metrics) Request(route string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Ingest counts a PUT of an episode: its status, the kind of its refusal or "",
// and the bytes of its body that were read.
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

// AuthFailed counts a contact whose identity was refused.
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

// errorLog takes what the library has to say of a scrape.
type errorLog struct{ log *slog.Logger }

// Println logs what the library says.
func (l errorLog) Println(v ...any) { l.log.Warn("scrape is not whole", "err", v) }
