// Package admin is the sidecar's side port: health, metrics and a look inside.
package admin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Source is what the admin port shows. All methods are safe for concurrent
// use.
type Source interface {
	// Ready is nil once the sidecar can serve, else why it cannot.
	Ready() error
	// ConfigDump and Clusters are encoded as JSON.
	ConfigDump() any
	Clusters() any
}

// Handler serves the admin endpoints.
func Handler(s Source, gatherer prometheus.Gatherer, level *slog.LevelVar) http.Handler {
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true})
	mux.Handle("GET /metrics", metrics)
	mux.Handle("GET /stats/prometheus", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		text(w, http.StatusOK, "ready")
	})
	mux.HandleFunc("GET /config_dump", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.ConfigDump()) })
	mux.HandleFunc("GET /clusters", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Clusters()) })
	mux.HandleFunc("POST /logging", func(w http.ResponseWriter, r *http.Request) {
		if err := level.UnmarshalText([]byte(r.URL.Query().Get("level"))); err != nil {
			text(w, http.StatusBadRequest, "want ?level=debug, info, warn or error")
			return
		}
		text(w, http.StatusOK, "level "+level.Level().String())
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "/healthz /ready /metrics /stats/prometheus /config_dump /clusters /debug/pprof/ and POST /logging?level=")
	})
	return mux
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
