package ratelimit

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Codes are how a request can end, in the label code: Envoy's two overall codes
// and, for a request that could not be answered, that of gRPC.
const (
	codeOK          = "OK"
	codeOverLimit   = "OVER_LIMIT"
	codeInvalid     = "INVALID_ARGUMENT"
	codeUnavailable = "UNAVAILABLE"
)

// UnknownDomain stands for every domain that no configuration has named, and
// OtherRules for the rules and values beyond maxSeries: callers choose both.
const (
	UnknownDomain = "unknown"
	OtherRules    = "other"
)

// maxSeries bounds the rules of all domains that have counters of their own,
// values of detailed_metric and value_to_metric among them.
const maxSeries = 2000

// requestCounts are one domain's requests, by code.
type requestCounts struct{ ok, overLimit, invalid, unavailable atomic.Uint64 }

// hitCounts are one rule's hits.
type hitCounts struct{ within, over, shadow, near atomic.Uint64 }

// seriesKey names hitCounts.
type seriesKey struct{ domain, rule string }

// series are the counters of everything that was ever configured: they outlive
// configurations, because counters never fall.
type series struct {
	mu       sync.Mutex // guards the fields below
	requests map[string]*requestCounts
	hits     map[seriesKey]*hitCounts

	// spelled finds hits without the lock, for rules whose metric has values of
	// the request: by seriesKey.
	spelled sync.Map
}

func newSeries() *series {
	return &series{requests: make(map[string]*requestCounts), hits: make(map[seriesKey]*hitCounts)}
}

func (s *series) requestsOf(domain string) *requestCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[domain] == nil {
		s.requests[domain] = &requestCounts{}
	}
	return s.requests[domain]
}

// hitsOf finds a rule's counters; beyond maxSeries those of all others.
func (s *series) hitsOf(domain, rule string) *hitCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := seriesKey{domain, rule}
	if s.hits[k] == nil && len(s.hits) >= maxSeries {
		k = seriesKey{domain, OtherRules}
	}
	if s.hits[k] == nil {
		s.hits[k] = &hitCounts{}
	}
	return s.hits[k]
}

// spelledHitsOf is hitsOf for a rule name that comes from a request.
func (s *series) spelledHitsOf(domain, rule string) *hitCounts {
	k := seriesKey{domain, rule}
	if v, ok := s.spelled.Load(k); ok {
		return v.(*hitCounts)
	}
	hits := s.hitsOf(domain, rule)
	s.mu.Lock()
	own := s.hits[k] == hits
	s.mu.Unlock()
	if own { // else a caller could fill the memory with names
		s.spelled.Store(k, hits)
	}
	return hits
}

// nearShare of a limit is where hits begin to count as near it.
const nearShare = 0.8

// count adds what a window has gone through. Hits that began within the limit
// and ended over it count as both, each with its part.
func (h *hitCounts) count(before, after, limit uint64, shadow bool) {
	within := min(after, limit) - min(before, limit)
	over := after - before - within
	h.within.Add(within)
	from, to := max(before, uint64(float64(limit)*nearShare)), min(after, limit)
	if to > from {
		h.near.Add(to - from)
	}
	switch {
	case over == 0:
	case shadow:
		h.shadow.Add(over)
	default:
		h.over.Add(over)
	}
}

// Stats is what happened since the server began, and how full it is.
type Stats struct {
	Requests []RequestStats // ordered by domain and code
	Hits     []HitStats     // ordered by domain and rule
	// Keys are remembered now, of MaxKeys; Bytes is the memory of their windows.
	Keys, MaxKeys, Bytes int64
	// Reclaimed counts keys forgotten after their windows, Overflowed hits on
	// keys beyond MaxKeys.
	Reclaimed, Overflowed uint64
}

// RequestStats counts requests, Code as Envoy or gRPC spells it.
type RequestStats struct {
	Domain, Code string
	Count        uint64
}

// HitStats counts a rule's hits. Within, Over and Shadow are apart: their sum is
// all of them. Near are those of Within beyond four fifths of the limit.
type HitStats struct {
	Domain, Rule               string
	Within, Over, Shadow, Near uint64
}

// Stats reads the counters.
func (s *Server) Stats() Stats {
	out := Stats{
		Keys: s.counters.keys.Load(), MaxKeys: s.counters.maxKeys, Bytes: s.counters.bytes(),
		Reclaimed: s.counters.reclaimed.Load(), Overflowed: s.overflowed.Load(),
	}
	s.series.mu.Lock()
	defer s.series.mu.Unlock()
	for domain, c := range s.series.requests {
		out.Requests = append(out.Requests,
			RequestStats{domain, codeOK, c.ok.Load()}, RequestStats{domain, codeOverLimit, c.overLimit.Load()},
			RequestStats{domain, codeInvalid, c.invalid.Load()}, RequestStats{domain, codeUnavailable, c.unavailable.Load()})
	}
	out.Requests = slices.DeleteFunc(out.Requests, func(r RequestStats) bool { return r.Count == 0 })
	for k, c := range s.series.hits {
		out.Hits = append(out.Hits, HitStats{k.domain, k.rule, c.within.Load(), c.over.Load(), c.shadow.Load(), c.near.Load()})
	}
	slices.SortFunc(out.Requests, func(a, b RequestStats) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Code, b.Code))
	})
	slices.SortFunc(out.Hits, func(a, b HitStats) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}
