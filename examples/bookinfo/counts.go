package main

import (
	"net/http"
	"sync/atomic"
)

const (
	pathHealth = "/health"
	pathFault  = "/fault"
	pathCounts = "/stats/counts"
)

// Counts is what a service counted since its start, as /stats/counts answers it.
type Counts struct {
	Service string `json:"service"`
	Version string `json:"version"`
	// Requests that arrived, on any path but /health, /fault and /stats/counts.
	Received uint64                `json:"received"`
	Sent     map[string]SentCounts `json:"sent"`
}

// SentCounts is what a service called another for.
type SentCounts struct {
	// Calls that were answered, with any status, or failed after being sent.
	Requests uint64 `json:"requests"`
	// Those of Requests that got no whole answer, or one with a 5xx status.
	Failed uint64 `json:"failed"`
	// Calls that never left, because nothing could be connected to.
	Unsent uint64 `json:"unsent"`
}

// counts is safe for concurrent use; its map never changes after newCounts.
type counts struct {
	service, version string
	received         atomic.Uint64
	sent             map[string]*sentCounts
}

type sentCounts struct{ requests, failed, unsent atomic.Uint64 }

func newCounts(cfg Config) *counts {
	c := &counts{service: cfg.Service, version: cfg.Version, sent: map[string]*sentCounts{}}
	for _, name := range cfg.calls() {
		c.sent[name] = &sentCounts{}
	}
	return c
}

func (c *counts) snapshot() Counts {
	s := Counts{Service: c.service, Version: c.version, Received: c.received.Load(), Sent: map[string]SentCounts{}}
	for name, n := range c.sent {
		s.Sent[name] = SentCounts{Requests: n.requests.Load(), Failed: n.failed.Load(), Unsent: n.unsent.Load()}
	}
	return s
}

// wrap counts each request before next sees it, hence before its answer can
// be written, and serves the counts. Unknown paths count too: the mesh carried
// those requests like any other.
func (c *counts) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case pathCounts:
			if r.Method != http.MethodGet {
				w.Header().Set("Allow", http.MethodGet)
				writeError(w, http.StatusMethodNotAllowed, "only GET")
				return
			}
			writeJSON(w, http.StatusOK, c.snapshot())
			return
		case pathHealth, pathFault:
		default:
			c.received.Add(1)
		}
		next.ServeHTTP(w, r)
	})
}
