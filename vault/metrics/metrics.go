// Package metrics counts what a node does, in the form that Prometheus reads.
// No label holds a name, an address, an ID or a client's word: kinds, codes,
// routes and rules are closed lists of ours.
package metrics

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what one node counts. Its methods may be called by many
// goroutines; they implement what ledger, api and storage ask for.
type Metrics struct {
	registry *prometheus.Registry

	admissions *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	failures   *prometheus.CounterVec
	commits    *prometheus.HistogramVec
	batches    prometheus.Histogram
	revokes    *prometheus.HistogramVec
	cuts       *prometheus.HistogramVec
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	bytes      *prometheus.CounterVec
	streams    prometheus.Gauge
	storage    *prometheus.CounterVec
}

// Stores whose errors are counted.
const (
	Catalog = "catalog"
	Objects = "objects"
)

// New returns counters at zero. version is the program's.
func New(version string) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		admissions: counter("dsvault_admissions_total", "Requests that were allowed and recorded, by kind of record.", "kind"),
		refusals:   counter("dsvault_refusals_total", "Requests that were refused and recorded, by the kind that was asked for and by the rule that denied, no-role or not-met.", "kind", "reason"),
		failures:   counter("dsvault_admission_failures_total", "Requests that nothing was served for, or refusals without a record, because the audit log could not be written, by cause.", "cause"),
		commits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dsvault_commit_seconds", Help: "How long a transaction of the audit log took, by outcome: ok or failed.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // 0.5 ms to 16 s
		}, []string{"outcome"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dsvault_commit_entries", Help: "How many requests shared a transaction of the audit log.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		revokes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dsvault_revoke_seconds", Help: "How long it took from the record of a change that takes something away until it was in force on every node, by how that is known: here, followed, lapsed or unheard.",
			Buckets: []float64{.001, .003, .01, .03, .1, .2, .3, .5, 1, 1.5, 2, 2.5, 3},
		}, []string{"how"}),
		cuts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dsvault_cut_seconds", Help: "Reads that were cut while they ran, by cause: revoked or blind; and for how long at the most they have gone on without being allowed.",
			Buckets: []float64{.01, .03, .1, .2, .3, .5, 1, 1.5, 2, 2.5, 3, 10},
		}, []string{"cause"}),
		requests: counter("dsvault_http_requests_total", "Answers, by route, status and code (ok, or that of the problem).", "route", "status", "code"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dsvault_http_request_seconds", Help: "How long an answer took, to its last byte, by route.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100, 300},
		}, []string{"route"}),
		bytes:   counter("dsvault_http_bytes_total", "Bytes of bodies, by direction: sent or received.", "direction"),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dsvault_open_streams", Help: "Transfers of shards, files and lists of hashes that run."}),
		storage: counter("dsvault_storage_errors_total", "What the stores could not do, by store (catalog or objects) and code.", "store", "code"),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dsvault_build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()}})
	info.Set(1)
	m.registry.MustRegister(m.admissions, m.refusals, m.failures, m.commits, m.batches, m.revokes, m.cuts, m.requests, m.seconds, m.bytes, m.streams,
		m.storage, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, direction := range []string{sent, received} { // there from the start
		m.bytes.WithLabelValues(direction)
	}
	return m
}

const (
	sent     = "sent"
	received = "received"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// Gauges are what a running vault is asked for whenever somebody looks.
type Gauges struct {
	Waiting func() int  // entries that wait for a commit
	Halted  func() bool // the log is not the one that was signed: nothing is served

	// CheckpointLag is how long the oldest record that no signed checkpoint
	// covers has been waiting.
	CheckpointLag func(context.Context) (time.Duration, error)

	// ClockApart is how far this machine's clock is ahead of the database's, 0
	// within two seconds.
	ClockApart func() time.Duration

	// Requests counts the requests of people about their data that are open, and
	// those of them that are overdue.
	Requests func(context.Context) (open, overdue int, err error)
}

// lagTimeout bounds what a look at the metrics asks of the catalog.
const lagTimeout = 5 * time.Second

// Watch adds a vault's gauges. It may be called once.
func (m *Metrics) Watch(g Gauges) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "dsvault_audit_queue_length", Help: "Requests that wait for the audit log."},
		func() float64 { return float64(g.Waiting()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "dsvault_halted", Help: "1 if nothing is served any more, because the catalog was rolled back or rewritten; else 0."},
		func() float64 {
			if g.Halted() {
				return 1
			}
			return 0
		}))
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "dsvault_checkpoint_lag_seconds",
			Help: "How long the oldest record that no signed checkpoint covers has been waiting; NaN if the catalog does not answer."},
		func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
			defer cancel()
			lag, err := g.CheckpointLag(ctx)
			if err != nil {
				return math.NaN()
			}
			return lag.Seconds()
		}))
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "dsvault_clock_apart_seconds",
			Help: "How far this machine's clock is ahead of the database's, which counts; 0 within two seconds."},
		func() float64 { return g.ClockApart().Seconds() }))
	m.registry.MustRegister(requests{g.Requests})
}

// requests shows the register of requests, both numbers of one look.
type requests struct {
	count func(context.Context) (open, overdue int, err error)
}

var (
	openRequests    = prometheus.NewDesc("dsvault_requests_open", "Requests of people about their data that are not answered yet; NaN if the catalog does not answer.", nil, nil)
	overdueRequests = prometheus.NewDesc("dsvault_requests_overdue", "Those of them whose deadline has passed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (requests) Describe(to chan<- *prometheus.Desc) {
	to <- openRequests
	to <- overdueRequests
}

// Collect implements prometheus.Collector.
func (r requests) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	open, overdue, err := r.count(ctx)
	values := [2]float64{float64(open), float64(overdue)}
	if err != nil {
		values = [2]float64{math.NaN(), math.NaN()}
	}
	for i, desc := range []*prometheus.Desc{openRequests, overdueRequests} {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, values[i])
	}
}

// Handler serves the metrics at every path.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Recorded counts a record of the audit log.
func (m *Metrics) Recorded(kind, why string) {
	if why == "" {
		m.admissions.WithLabelValues(kind).Inc()
		return
	}
	m.refusals.WithLabelValues(kind, why).Inc()
}

// Failed counts what could not be recorded.
func (m *Metrics) Failed(cause string) { m.failures.WithLabelValues(cause).Inc() }

// Committed measures a transaction of the audit log.
func (m *Metrics) Committed(entries int, took time.Duration, ok bool) {
	outcome := "ok"
	if !ok {
		outcome = "failed"
	}
	m.commits.WithLabelValues(outcome).Observe(took.Seconds())
	m.batches.Observe(float64(entries))
}

// Settled measures a change that takes something away: how it came to be in force
// on every node, and how long after its record.
func (m *Metrics) Settled(how string, took time.Duration) {
	m.revokes.WithLabelValues(how).Observe(took.Seconds())
}

// Cut counts a running read that was cut, and for how long at the most it had
// gone on without being allowed.
func (m *Metrics) Cut(cause string, unsure time.Duration) {
	m.cuts.WithLabelValues(cause).Observe(unsure.Seconds())
}

// Answered counts a request: its route's pattern ("" for none), its status, the
// code of what went wrong, and the bytes of its bodies.
func (m *Metrics) Answered(route string, status int, code string, took time.Duration, in, out int64) {
	if route == "" {
		route = "none"
	}
	if code == "" {
		code = "ok"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status), code).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
	m.bytes.WithLabelValues(received).Add(float64(in))
	m.bytes.WithLabelValues(sent).Add(float64(out))
}

// Streams says how many transfers run.
func (m *Metrics) Streams(open int) { m.streams.Set(float64(open)) }

// StorageFailed counts an error of the catalog or of the object store.
func (m *Metrics) StorageFailed(store, code string) { m.storage.WithLabelValues(store, code).Inc() }
