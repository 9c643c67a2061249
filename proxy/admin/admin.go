// Package admin is the sidecar's side port: health, metrics and a look inside,
// under the paths that Envoy's has.
package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Source is what the admin port shows. All methods are safe for concurrent
// use.
type Source interface {
	// Ready is nil while the sidecar serves, else why it does not.
	Ready() error
	// ConfigDump and Clusters are encoded as JSON.
	ConfigDump() any
	Clusters() any
	// Life is where the sidecar is between its start and its end; Drain begins
	// to bring it there, and returns at once.
	Life() Life
	Drain()
}

// Life is the answer of /drain.
type Life struct {
	State            string `json:"state"`
	InboundInFlight  int64  `json:"inboundInFlight"`
	OutboundInFlight int64  `json:"outboundInFlight"`
}

// endpoint is one path of the port. A path that ends with a slash stands for all
// below it.
type endpoint struct {
	path string
	get  http.HandlerFunc
	post http.HandlerFunc // nil where there is nothing to change
	help string
}

type port struct {
	source   Source
	gatherer prometheus.Gatherer
	level    *slog.LevelVar
}

// Handler serves the admin endpoints. What changes something is a POST, which a
// page in a browser that belongs to somebody else cannot make.
func Handler(s Source, gatherer prometheus.Gatherer, level *slog.LevelVar) http.Handler {
	p := &port{s, gatherer, level}
	metrics := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP
	endpoints := []endpoint{
		{"/healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") }, nil, "200 while the process runs"},
		{"/ready", p.ready, nil, "200 while it serves, else 503 and why not"},
		{"/drain", p.life, p.drain, "how far it is in its life; POST drains as SIGTERM does, but the process stays and calls out until it is told to stop"},
		{"/stats", p.stats, nil, "all counters and gauges; ?format=json or prometheus, ?filter=REGEX for names"},
		{"/stats/prometheus", metrics, nil, "the same for Prometheus"},
		{"/metrics", metrics, nil, "the same as /stats/prometheus"},
		{"/clusters", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Clusters()) }, nil, "services and their endpoints: health, ejection, requests in flight, latency"},
		{"/config_dump", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.ConfigDump()) }, nil, "configuration, addresses, policies in force"},
		{"/logging", p.logging, p.setLogging, "the log's level; POST ?level=debug, info, warn or error sets it"},
		{"/debug/pprof/", pprof.Index, nil, "Go's profiles"},
		{"/debug/pprof/profile", pprof.Profile, nil, "CPU profile; ?seconds="},
		{"/debug/pprof/trace", pprof.Trace, nil, "execution trace; ?seconds="},
	}
	mux := http.NewServeMux()
	for _, e := range endpoints {
		mux.HandleFunc(e.path, e.serve)
	}
	index := endpoint{path: "/", get: func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, list(endpoints)) }}
	mux.HandleFunc("/{$}", index.serve)
	return http.NewCrossOriginProtection().Handler(mux)
}

// serve answers the methods that the endpoint has and says which those are to
// others.
func (e *endpoint) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		e.get(w, r)
	case r.Method == http.MethodPost && e.post != nil:
		e.post(w, r)
	case e.post != nil:
		w.Header().Set("Allow", "GET, HEAD, POST")
		text(w, http.StatusMethodNotAllowed, "use GET to look at "+e.path+", POST to change it: "+e.help)
	default:
		w.Header().Set("Allow", "GET, HEAD")
		text(w, http.StatusMethodNotAllowed, "use GET: "+e.path+" has nothing to change")
	}
}

// list is the index page.
func list(endpoints []endpoint) string {
	sorted := slices.SortedFunc(slices.Values(endpoints), func(a, b endpoint) int { return cmp.Compare(a.path, b.path) })
	var b strings.Builder
	b.WriteString("mesh-proxy admin\n\n")
	for _, e := range sorted {
		fmt.Fprintf(&b, "%-22s %s\n", e.path, e.help)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (p *port) ready(w http.ResponseWriter, _ *http.Request) {
	if err := p.source.Ready(); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusOK, "ready")
}

func (p *port) life(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.source.Life()) }

func (p *port) drain(w http.ResponseWriter, r *http.Request) {
	p.source.Drain()
	p.life(w, r)
}

func (p *port) logging(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, "level "+p.level.Level().String())
}

func (p *port) setLogging(w http.ResponseWriter, r *http.Request) {
	if err := p.level.UnmarshalText([]byte(r.URL.Query().Get("level"))); err != nil {
		text(w, http.StatusBadRequest, "want ?level=debug, info, warn or error")
		return
	}
	p.logging(w, r)
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s + "\n")) // a reader that left needs no answer
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // as above
}
