// Package web is the hub's HTTP side: the JSON API of api/topology/v1 with its
// two event streams, Prometheus' API and /metrics, and the web UI.
package web

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/details"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
	"github.com/telemesh/telemesh/telemetry-hub/metrics"
	"github.com/telemesh/telemesh/telemetry-hub/store"
	"github.com/telemesh/telemesh/telemetry-hub/tap"
	"github.com/telemesh/telemesh/telemetry-hub/trace"
)

const (
	defaultWindow = 60
	maxListed     = 1000
	defaultListed = 50
)

// Options of a Server.
type Options struct {
	Graph   *graph.Graph
	Feeds   *graph.Feeds
	Store   *store.Store
	Tap     *tap.Tap
	Metrics *metrics.API
	// Details of requests; nil has none.
	Details  *details.Collector
	Gatherer prometheus.Gatherer
	Registry prometheus.Registerer
	// Status and Policies build their documents.
	Status   func() topologyv1.Status
	Policies func() topologyv1.PolicyList
	// Tidy arranges the graph afresh.
	Tidy   func()
	UI     http.Handler
	Logger *slog.Logger
}

// Server serves HTTP.
type Server struct {
	o      Options
	lookup prometheus.Histogram
}

// Handler returns the hub's HTTP handler.
func Handler(o Options) http.Handler {
	s := &Server{o: o, lookup: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: vocab.MetricHubLookup, Help: "Time to find the records of a request.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 14),
	})}
	o.Registry.MustRegister(s.lookup)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/mesh/v1/graph", s.graph)
	mux.HandleFunc("GET /api/mesh/v1/graph/stream", s.graphStream)
	mux.HandleFunc("POST /api/mesh/v1/graph/tidy", func(w http.ResponseWriter, _ *http.Request) {
		s.o.Tidy()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /api/mesh/v1/series", s.series)
	mux.HandleFunc("GET /api/mesh/v1/requests", s.requests)
	mux.HandleFunc("GET /api/mesh/v1/requests/{id}", s.request)
	mux.HandleFunc("GET /api/mesh/v1/tap", s.tap)
	mux.HandleFunc("GET /api/mesh/v1/status", func(w http.ResponseWriter, _ *http.Request) { respond(w, s.o.Status()) })
	mux.HandleFunc("GET /api/mesh/v1/policies", func(w http.ResponseWriter, _ *http.Request) { respond(w, s.o.Policies()) })
	mux.HandleFunc("/api/mesh/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "no such resource: "+r.Method+" "+r.URL.Path, "the API is described in api/topology/v1/topology.go")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready\n")) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	o.Metrics.Register(mux)
	mux.Handle("/", o.UI)
	return mux
}

func respond(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // a reader that left needs no answer
}

func refuse(w http.ResponseWriter, status int, message, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(topologyv1.Error{Error: message, Hint: hint})
}

// whole reads a whole number within bounds from the query.
func whole(w http.ResponseWriter, r *http.Request, name string, fallback, least, most int) (int, bool) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return fallback, true
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "s"))
	if err != nil || n < least || n > most {
		refuse(w, http.StatusBadRequest, name+"="+s+" is not a whole number from "+strconv.Itoa(least)+" to "+strconv.Itoa(most), "leave it out for the default, "+strconv.Itoa(fallback))
		return 0, false
	}
	return n, true
}

func (s *Server) graph(w http.ResponseWriter, r *http.Request) {
	if window, ok := whole(w, r, "window", defaultWindow, 1, graph.Seconds); ok {
		respond(w, s.o.Graph.Snapshot(window))
	}
}

func (s *Server) series(w http.ResponseWriter, r *http.Request) {
	window, ok := whole(w, r, "window", 300, 1, graph.Seconds)
	if !ok {
		return
	}
	q := r.URL.Query()
	var out topologyv1.Series
	switch node, edge := q.Get("node"), q.Get("edge"); {
	case node != "":
		out, ok = s.o.Graph.NodeSeries(node, window)
	case edge != "":
		out, ok = s.o.Graph.EdgeSeries(edge, window)
	default:
		refuse(w, http.StatusBadRequest, "neither node nor edge was given", "?node=ID or ?edge=ID with an ID of /api/mesh/v1/graph")
		return
	}
	if !ok {
		refuse(w, http.StatusNotFound, "the graph has no "+q.Get("node")+q.Get("edge"), "GET /api/mesh/v1/graph lists the IDs")
		return
	}
	respond(w, out)
}

func (s *Server) request(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimSpace(r.PathValue("id"))
	if p, ok := ids.ParseTraceparent(id); ok {
		id = p.TraceID.String()
	}
	wait, ok := detailWait(r.URL.Query().Get("detail"))
	if !ok {
		refuse(w, http.StatusBadRequest, "detail="+r.URL.Query().Get("detail")+" is none of wait, kept and no", "leave it out for what the hub has, and to have the rest ordered")
		return
	}
	began := time.Now()
	found, err := s.o.Store.Find(r.Context(), id)
	s.lookup.Observe(time.Since(began).Seconds())
	incomplete := errors.Is(err, store.ErrIncomplete)
	if err != nil && !incomplete { // the caller has gone
		return
	}
	if len(found) == 0 && incomplete {
		refuse(w, http.StatusServiceUnavailable, "no record of request "+id+" on this hub, and "+err.Error(),
			"ask again when the bucket answers: meshctl status and the hub's log say more")
		return
	}
	if len(found) == 0 {
		refuse(w, http.StatusNotFound, "no record of request "+id,
			"records arrive within a second of the response; after that, check the ID (x-request-id of the response) and that both sidecars are connected: meshctl status")
		return
	}
	rows := make([]trace.Row, len(found))
	for i, f := range found {
		rows[i] = trace.Row{Record: f.Record, Edge: f.Edge}
	}
	t := trace.Assemble(rows)
	if incomplete {
		t.Gaps = append(t.Gaps, "some hops may be missing: "+err.Error())
	}
	if wait != noDetail {
		s.addDetails(r.Context(), &t, found, wait)
	}
	respond(w, t)
}

func (s *Server) requests(w http.ResponseWriter, r *http.Request) {
	limit, ok := whole(w, r, "limit", defaultListed, 1, maxListed)
	if !ok {
		return
	}
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), filterHint)
		return
	}
	found, complete := s.o.Store.Search(r.Context(), store.Query{Limit: limit, Match: f.match, Where: f.where})
	out := topologyv1.RequestList{Requests: make([]topologyv1.Record, 0, len(found)), Truncated: !complete}
	for i := range found {
		out.Requests = append(out.Requests, trace.View(&found[i].Record, found[i].Edge))
	}
	respond(w, out)
}

func (s *Server) tap(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), filterHint)
		return
	}
	watcher := s.o.Tap.Watch(f.match)
	defer s.o.Tap.Stop(watcher)
	events := newEvents(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case seen := <-watcher.C:
			events.send("record", 0, trace.View(&seen.Record, seen.Edge))
		case <-tick.C:
			if n := watcher.Lagged(); n > 0 {
				events.send("lagged", 0, map[string]uint64{"records": n})
			}
			events.ping()
		case <-r.Context().Done():
			return
		}
		if events.err != nil {
			return
		}
	}
}

func (s *Server) graphStream(w http.ResponseWriter, r *http.Request) {
	window, ok := whole(w, r, "window", defaultWindow, 1, graph.Seconds)
	if !ok {
		return
	}
	after, _ := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64) // anything else starts afresh
	watch := s.o.Feeds.Watch(window, after)
	defer watch.Close()
	events := newEvents(w)
	if watch.Resumed {
		for _, d := range watch.Missed {
			events.send("delta", d.Sequence, d)
		}
		events.ping()
	} else {
		events.send("graph", watch.Graph.Sequence, watch.Graph)
	}
	for events.err == nil {
		deltas, ok := watch.Next(r.Context())
		if !ok {
			return
		}
		for _, d := range deltas {
			events.send("delta", d.Sequence, d)
		}
	}
}
