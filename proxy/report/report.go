// Package report is what the sidecar remembers and tells: cumulative series of
// every edge (tier 0) and one thin record per request (tier 1), kept in bounded
// memory and streamed to the hub. A slow or absent hub never slows a request.
package report

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

const (
	// maxSeries bounds tier 0. What comes after is counted in one series per
	// reporter, with everything about the other end unknown.
	maxSeries = 20_000
	// ringRecords is what the ring holds while the hub is away: at 1,000
	// requests per second about 16 s on top of the batches in flight.
	ringRecords = 16_384
)

// Reasons for which thin records are dropped.
const (
	reasonRingFull = "ring_full" // the hub was away for longer than the ring lasts
	reasonRefused  = "refused"   // the hub refused the batch
)

// queued is a thin record that waits to be sent.
type queued struct {
	edge   edgeKey
	record record.Record
}

// Store counts and remembers. Safe for concurrent use.
type Store struct {
	mu     sync.RWMutex // guards the field below
	series map[seriesKey]*series

	ringMu  sync.Mutex // guards the fields below
	ring    []queued   // circular
	head    int        // oldest
	length  int
	dropped map[string]uint64

	overflowed atomic.Uint64
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		series:  make(map[seriesKey]*series),
		ring:    make([]queued, ringRecords),
		dropped: make(map[string]uint64),
	}
}

// Observe takes the finished exchange in: the one place where a request is
// counted and remembered.
func (s *Store) Observe(x *exchange.Exchange) {
	edge := edgeOf(x)
	k := seriesKey{edge: edge, protocol: x.Record.Protocol, code: x.Record.Code, flags: vocab.NoFlags, verdict: x.Record.Verdict}
	if x.Record.Flags != "" {
		k.flags = x.Record.Flags
	}
	if x.Record.GRPCStatus > 0 {
		k.grpc = strconv.Itoa(int(x.Record.GRPCStatus) - 1)
	}
	s.seriesFor(k).observe(x)
	s.push(queued{edge: edge, record: x.Record})
}

func (s *Store) seriesFor(k seriesKey) *series {
	s.mu.RLock()
	found := s.series[k]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found = s.series[k]; found != nil {
		return found
	}
	if len(s.series) >= maxSeries {
		s.overflowed.Add(1)
		k = overflowKey(k)
		if found = s.series[k]; found != nil {
			return found
		}
	}
	found = newSeries()
	s.series[k] = found
	return found
}

// overflowKey keeps what is bounded (reporter, own identity, code, verdict)
// and forgets the rest: all that the other end says of itself.
func overflowKey(k seriesKey) seriesKey {
	if k.edge.reporter == telemetryv1.Reporter_REPORTER_SOURCE {
		k.edge.destination = identity.Unknown()
	} else {
		k.edge.source = identity.Unknown()
	}
	k.edge.service, k.flags = vocab.Unknown, vocab.NoFlags
	return k
}

// push drops the oldest record when the ring is full: the newest are those
// that people look for.
func (s *Store) push(q queued) {
	s.ringMu.Lock()
	defer s.ringMu.Unlock()
	if s.length == len(s.ring) {
		s.head = (s.head + 1) % len(s.ring)
		s.length--
		s.dropped[reasonRingFull]++
	}
	s.ring[(s.head+s.length)%len(s.ring)] = q
	s.length++
}

// pop takes up to n records with up to textBytes of text off the ring, oldest
// first, and at least one if there is one. It reports whether more are left.
func (s *Store) pop(n, textBytes int) ([]queued, bool) {
	s.ringMu.Lock()
	defer s.ringMu.Unlock()
	n = min(n, s.length)
	for i := range n {
		if textBytes -= textSize(&s.ring[(s.head+i)%len(s.ring)].record); textBytes < 0 {
			n = i + 1
			break
		}
	}
	out := make([]queued, n)
	for i := range out {
		slot := &s.ring[(s.head+i)%len(s.ring)]
		out[i], *slot = *slot, queued{} // the ring must not pin strings
	}
	s.head = (s.head + n) % len(s.ring)
	s.length -= n
	return out, s.length > 0
}

// textSize is the part of a record's size that its caller chooses.
func textSize(r *record.Record) int {
	n := len(r.RequestID) + len(r.Method) + len(r.Path) + len(r.Host) + len(r.UserAgent) + len(r.Detail) + len(r.Rule)
	for k, v := range r.Attributes {
		n += len(k) + len(v)
	}
	return n
}

// drop counts records that were lost after they had left the ring.
func (s *Store) drop(reason string, n int) {
	s.ringMu.Lock()
	defer s.ringMu.Unlock()
	s.dropped[reason] += uint64(n)
}

// QueueRatio is how full the ring is, 0 to 1.
func (s *Store) QueueRatio() float64 {
	s.ringMu.Lock()
	defer s.ringMu.Unlock()
	return float64(s.length) / float64(len(s.ring))
}

// Dropped counts the records lost so far, by reason.
func (s *Store) Dropped() map[string]uint64 {
	s.ringMu.Lock()
	defer s.ringMu.Unlock()
	out := make(map[string]uint64, len(s.dropped))
	for reason, n := range s.dropped {
		out[reason] = n
	}
	return out
}

// Overflowed counts requests whose series was merged because of maxSeries.
func (s *Store) Overflowed() uint64 { return s.overflowed.Load() }

// Snapshot is every series as it stands now; edges are named by index.
func (s *Store) Snapshot() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
	b := newBuilder()
	s.each(func(k seriesKey, one *series) {
		b.aggregates = append(b.aggregates, one.proto(k, b.edge(k.edge), false))
	})
	return b.edges, b.aggregates
}

// retell marks every series as changed.
func (s *Store) retell() {
	s.each(func(_ seriesKey, one *series) {
		one.mu.Lock()
		defer one.mu.Unlock()
		one.dirty = true
	})
}

func (s *Store) each(f func(seriesKey, *series)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, one := range s.series {
		f(k, one)
	}
}

// builder collects the edges that one batch names.
type builder struct {
	index      map[edgeKey]uint32
	edges      []*telemetryv1.Edge
	aggregates []*telemetryv1.Aggregate
}

func newBuilder() *builder { return &builder{index: make(map[edgeKey]uint32)} }

func (b *builder) edge(k edgeKey) uint32 {
	if i, ok := b.index[k]; ok {
		return i
	}
	i := uint32(len(b.edges))
	b.index[k] = i
	b.edges = append(b.edges, k.proto())
	return i
}

// A batch stays below what the hub takes at once (8 MiB): about 1 KiB for a
// series, and text that does not compress in the worst case.
const (
	batchSeries    = 2000
	batchRecords   = 4096
	batchTextBytes = 2 << 20
)

// batch builds the next batch of changed series and records, and reports
// whether there is more to tell at once. The batch is nil when there is nothing.
func (s *Store) batch(enc *record.Encoder, now time.Time) (*telemetryv1.Batch, bool) {
	b := newBuilder()
	more := false
	s.each(func(k seriesKey, one *series) {
		if !one.changed() {
			return
		}
		if len(b.aggregates) == batchSeries {
			more = true
			return
		}
		b.aggregates = append(b.aggregates, one.proto(k, b.edge(k.edge), true))
	})
	waiting, left := s.pop(batchRecords, batchTextBytes)
	if len(waiting) == 0 && len(b.aggregates) == 0 {
		return nil, false
	}
	records := make([]record.Record, len(waiting))
	for i := range waiting {
		records[i] = waiting[i].record
		records[i].Edge = b.edge(waiting[i].edge)
	}
	out := &telemetryv1.Batch{TimeUnixNano: now.UnixNano(), Edges: b.edges, Aggregates: b.aggregates, RecordCount: uint32(len(records))}
	if len(records) > 0 {
		out.Records = enc.Append(nil, records)
	}
	return out, more || left
}

// BytesLimit keeps one text of a record within bounds, so that a client's long
// path or user agent costs its sender and nobody else.
func BytesLimit(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "..."
}
