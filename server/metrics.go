// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kindred/api"
)

// metrics are what a server counts: requests as they come; the rest is looked up
// when somebody asks.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(v *view) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kindred_request_seconds", Help: "How long requests took, streams left out.",
			Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"request", "status"}),
	}
	m.registry.MustRegister(m.requests, fleetMetrics{v}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler serves the metrics.
func (m *metrics) handler() http.Handler {
	h := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := admin(r.Context()); err != nil {
			refuse(w, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// timed counts requests by the path's pattern, so that names of hosts do not
// become metrics.
func (m *metrics) timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		begin := time.Now()
		next.ServeHTTP(s, r)
		if w.Header().Get("Content-Type") == "text/event-stream" {
			return
		}
		what := r.Pattern // the mux has set it
		if what == "" {
			what = "none"
		}
		m.requests.WithLabelValues(what, strconv.Itoa(s.status)).Observe(time.Since(begin).Seconds())
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// fleetMetrics looks at what the server knows.
type fleetMetrics struct{ *view }

var (
	hostsMetric      = prometheus.NewDesc("kindred_hosts", "Hosts that have reported, by state.", []string{"state"}, nil)
	claimsMetric     = prometheus.NewDesc("kindred_claims", "Claims that hold room, by state.", []string{"state"}, nil)
	migrationsMetric = prometheus.NewDesc("kindred_migrations", "Migrations that are not over, by state.", []string{"state"}, nil)
	canariesMetric   = prometheus.NewDesc("kindred_canaries", "Canary orders that are not over, by state.", []string{"state"}, nil)
	drainsMetric     = prometheus.NewDesc("kindred_drains", "Drains that are not over, by state.", []string{"state"}, nil)
	revisionMetric   = prometheus.NewDesc("kindred_store_revision", "The store's revision that this server has seen.", nil, nil)
)

func (f fleetMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hostsMetric, claimsMetric, migrationsMetric, canariesMetric, drainsMetric, revisionMetric} {
		to <- d
	}
}

func (f fleetMetrics) Collect(to chan<- prometheus.Metric) {
	hosts := map[string]int{string(api.Reporting): 0, string(api.NotReporting): 0}
	claims := map[string]int{string(api.Held): 0, string(api.Bound): 0}
	migrations := make(map[string]int)
	for _, s := range []api.MigrationState{api.Planned, api.Claimed, api.Prepared, api.HandedOver, api.Completing, api.Aborting} {
		migrations[string(s)] = 0
	}
	canaries := map[string]int{string(api.CanaryOrdered): 0, string(api.CanaryRunning): 0}
	drains := map[string]int{string(api.DrainRunning): 0, string(api.DrainPaused): 0, string(api.DrainEmptied): 0}
	f.mu.RLock()
	for _, d := range f.drains {
		if !d.State.Over() {
			drains[string(d.State)]++
		}
	}
	for _, c := range f.canaries {
		if !c.State.Over() {
			canaries[string(c.State)]++
		}
	}
	for _, h := range f.hosts {
		hosts[string(h.live.State)]++
	}
	for _, c := range f.claims {
		if c.State != api.Ended {
			claims[string(c.State)]++
		}
	}
	for _, m := range f.migrations {
		if !m.State.Over() {
			migrations[string(m.State)]++
		}
	}
	revision := f.revision
	f.mu.RUnlock()
	for desc, counts := range map[*prometheus.Desc]map[string]int{hostsMetric: hosts, claimsMetric: claims, migrationsMetric: migrations, canariesMetric: canaries, drainsMetric: drains} {
		for state, n := range counts {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), state)
		}
	}
	to <- prometheus.MustNewConstMetric(revisionMetric, prometheus.CounterValue, float64(revision))
}
