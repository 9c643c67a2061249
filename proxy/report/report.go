// Package report is what the sidecar remembers and tells: cumulative series of
// every edge (tier 0) and one thin record per request (tier 1), kept in bounded
// memory and streamed to the hub. A slow or absent hub never slows a request.
package report

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/detail"
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
	reasonRingFull        = "ring_full"         // the hub was away for longer than the ring lasts
	reasonRingFullNotable = "ring_full_notable" // likewise, and they were notable
	reasonRefused         = "refused"           // the hub refused the batch
)

// Store counts and remembers. Safe for concurrent use.
type Store struct {
	edges   edges
	ring    ring
	details *detail.Details

	mu     sync.RWMutex // guards the field below
	series []*series    // of all edges

	overflowed atomic.Uint64
}

// NewStore returns an empty store that keeps no details of requests.
func NewStore() *Store { return NewStoreWith(detail.New(detail.Options{})) }

// NewStoreWith returns an empty store that gives details what it observes.
func NewStoreWith(details *detail.Details) *Store {
	s := &Store{details: details}
	s.edges.init()
	s.ring.init()
	return s
}

// Observe takes the finished exchange in: the one place where a request is
// counted and remembered. It allocates nothing for an edge and an outcome that
// were seen before.
func (s *Store) Observe(x *exchange.Exchange) {
	k := rowKey{protocol: x.Record.Protocol, code: x.Record.Code, grpc: x.Record.GRPCStatus, flags: vocab.NoFlags, verdict: x.Record.Verdict}
	if x.Record.Flags != "" {
		k.flags = x.Record.Flags
	}
	e := s.edges.of(x)
	row := e.row(k)
	if row == nil {
		e, row = s.add(x, e, k)
	}
	row.observe(&x.Record)
	s.ring.push(x.Shard, e, &x.Record, row.notable || isSlow(&x.Record))
	s.details.Keep(x, e.trigger(&x.Record), &e.share)
}

// add makes the series of an outcome that is new on its edge.
func (s *Store) add(x *exchange.Exchange, e *edge, k rowKey) (*edge, *series) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := e.row(k); found != nil {
		return e, found
	}
	if len(s.series) >= maxSeries {
		s.overflowed.Add(1)
		e = s.edges.canonical(overflowKey(e.key))
		k.flags = vocab.NoFlags
		if found := e.row(k); found != nil {
			return e, found
		}
	}
	row := newSeries(e, k)
	s.series = append(s.series, row)
	e.add(row)
	return e, row
}

// overflowKey keeps what is bounded (reporter, own identity, code, verdict)
// and forgets the rest: all that the other end says of itself.
func overflowKey(k edgeKey) edgeKey {
	if k.reporter == telemetryv1.Reporter_REPORTER_SOURCE {
		k.destination = identity.Unknown()
	} else {
		k.source = identity.Unknown()
	}
	k.service = vocab.Unknown
	return k
}

// drop counts records that were lost after they had left the ring.
func (s *Store) drop(reason string, n int) { s.ring.lose(reason, n) }

// QueueRatio is how full the ring is, 0 to 1.
func (s *Store) QueueRatio() float64 { return s.ring.ratio() }

// Dropped counts the records lost so far, by reason.
func (s *Store) Dropped() map[string]uint64 { return s.ring.losses() }

// Overflowed counts requests whose series was merged because of maxSeries.
func (s *Store) Overflowed() uint64 { return s.overflowed.Load() }

// Observed counts the requests so far.
func (s *Store) Observed() (n uint64) {
	s.each(func(one *series) { n += one.count() })
	return n
}

// Snapshot is every series as it stands now; edges are named by index.
func (s *Store) Snapshot() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
	b := newBuilder(nil)
	s.each(func(one *series) {
		b.aggregates = append(b.aggregates, one.proto(b.edge(one.edge), false))
	})
	return b.edges, b.aggregates
}

// retell marks every series as changed.
func (s *Store) retell() {
	s.each(func(one *series) {
		one.mu.Lock()
		defer one.mu.Unlock()
		one.dirty = true
	})
}

func (s *Store) each(f func(*series)) {
	s.mu.RLock()
	all := s.series // only ever appended to
	s.mu.RUnlock()
	for _, one := range all {
		f(one)
	}
}

// builder collects the edges that one batch names.
type builder struct {
	index      map[*edge]uint32
	edges      []*telemetryv1.Edge
	aggregates []*telemetryv1.Aggregate
}

// newBuilder begins with the edges of a block, which are numbered already.
func newBuilder(of *block) *builder {
	b := &builder{index: make(map[*edge]uint32)}
	if of != nil {
		for _, e := range of.edges {
			b.edge(e)
		}
	}
	return b
}

func (b *builder) edge(e *edge) uint32 {
	if i, ok := b.index[e]; ok {
		return i
	}
	i := uint32(len(b.edges))
	b.index[e] = i
	b.edges = append(b.edges, e.key.proto())
	return i
}

// batchSeries keeps a batch below what the hub takes at once (8 MiB): about 1 KiB
// for a series, beside one block of records of a few KiB each at the very most.
const batchSeries = 2000

// batch builds the next batch of changed series and a whole block, with details
// if there is a hub to take them, and reports whether there is more to tell at
// once. The batch is nil when there is nothing.
func (s *Store) batch(enc *record.Encoder, now time.Time, details bool) (out *telemetryv1.Batch, more bool) {
	block, more := s.ring.take()
	defer s.ring.giveBack(block)
	b := newBuilder(block)
	s.each(func(one *series) {
		if !one.changed() {
			return
		}
		if len(b.aggregates) == batchSeries {
			more = true
			return
		}
		b.aggregates = append(b.aggregates, one.proto(b.edge(one.edge), true))
	})
	out = b.batch(block, enc, now)
	if details {
		out, more = s.addDetails(out, more, now)
	}
	return out, more
}

// addDetails puts what waits into a batch, or one of its own.
func (s *Store) addDetails(b *telemetryv1.Batch, more bool, now time.Time) (*telemetryv1.Batch, bool) {
	details, answers, rest := s.details.Take()
	if len(details) == 0 && len(answers) == 0 {
		return b, more
	}
	if b == nil {
		b = &telemetryv1.Batch{TimeUnixNano: now.UnixNano()}
	}
	b.Details, b.OrderAnswers = details, answers
	return b, more || rest
}

// recordBatch is batch for a whole block alone.
func (s *Store) recordBatch(enc *record.Encoder, now time.Time) (out *telemetryv1.Batch, more bool) {
	block, more := s.ring.take()
	defer s.ring.giveBack(block)
	return newBuilder(block).batch(block, enc, now), more
}

// batch is what was collected and the block's records, nil if that is nothing.
func (b *builder) batch(block *block, enc *record.Encoder, now time.Time) *telemetryv1.Batch {
	if block == nil && len(b.aggregates) == 0 {
		return nil
	}
	out := &telemetryv1.Batch{TimeUnixNano: now.UnixNano(), Edges: b.edges, Aggregates: b.aggregates}
	if block != nil {
		out.RecordCount, out.Records = uint32(block.Rows()), enc.Append(nil, &block.Block)
	}
	return out
}

// BytesLimit keeps one text of a record within bounds, so that a client's long
// path or user agent costs its sender and nobody else.
func BytesLimit(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-3], "") + "..."
}
