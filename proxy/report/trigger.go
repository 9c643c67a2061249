package report

import (
	"math"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	// slowQuantile is above which a request of an edge is slow, and slowSamples how
	// many it takes to say.
	slowQuantile = 0.99
	slowSamples  = 500
	// judgeEvery is how often an edge's latencies are looked at.
	judgeEvery = time.Second
)

// trigger is why a request's detail is to be sent, empty if nothing asks for it.
func (e *edge) trigger(r *record.Record) string {
	switch {
	case r.Code >= 500 || serverFault(r.GRPCStatus):
		return vocab.TriggerError
	case r.Verdict == vocab.VerdictDenied || r.Verdict == vocab.VerdictThrottled:
		return vocab.TriggerDenied
	case r.Flags != "":
		return vocab.TriggerFlag
	case r.Attempts > 1:
		return vocab.TriggerRetry
	}
	if slow := e.slow.Load(); slow > 0 && int64(r.Duration) >= slow && r.Protocol != vocab.ProtocolTCP {
		return vocab.TriggerSlow
	}
	return ""
}

// serverFault reports a gRPC status, plus one, that is the server's: UNKNOWN,
// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, as
// OpenTelemetry's conventions for a server's span have it.
func serverFault(plusOne uint32) bool {
	switch plusOne {
	case 2 + 1, 4 + 1, 12 + 1, 13 + 1, 14 + 1, 15 + 1:
		return true
	}
	return false
}

// judge finds out what is slow on each edge that had requests since the last
// batch. It is called before that is cut, at the sender's pace.
func (s *Store) judge() {
	edges := make(map[*edge]bool)
	s.each(func(one *series) {
		if !edges[one.edge] && one.key.protocol != vocab.ProtocolTCP && one.changed() {
			edges[one.edge] = true
		}
	})
	for e := range edges {
		e.judge()
	}
}

// judge takes the upper bound of the bucket that holds the quantile: a request
// above it is beyond doubt.
func (e *edge) judge() {
	rows := e.rows.Load()
	if rows == nil {
		return
	}
	var counts [histogram.Buckets]uint64
	total := uint64(0)
	for _, one := range *rows {
		if one.key.protocol != vocab.ProtocolTCP {
			total += one.addDurations(&counts)
		}
	}
	if total < slowSamples {
		return
	}
	rank, seen := uint64(math.Ceil(slowQuantile*float64(total))), uint64(0)
	for i, n := range counts {
		if seen += n; seen >= rank {
			_, upper := histogram.Bounds(i)
			e.slow.Store(int64(upper))
			return
		}
	}
}

// addDurations adds the series' histogram to counts and returns how many requests
// that were.
func (s *series) addDurations(counts *[histogram.Buckets]uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, part := range s.durations {
		if part == nil {
			continue
		}
		for j, n := range part {
			counts[8*i+j] += n
		}
	}
	return s.requests
}
