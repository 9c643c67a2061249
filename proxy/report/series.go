package report

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
)

// rowKey identifies one cumulative series of an edge.
type rowKey struct {
	protocol string
	code     uint32
	grpc     uint32 // status plus one, 0 for none
	flags    string
	verdict  string
}

// series is one row of tier 0, cumulative since the process started.
type series struct {
	edge    *edge
	key     rowKey
	notable bool // all its requests are

	mu            sync.Mutex // guards the fields below
	requests      uint64
	durations     [histogram.Buckets / 8]*[8]uint64 // by log-linear index; parts that were met
	durationSum   uint64
	buckets       []uint64 // vocab.DurationBuckets and +Inf
	requestBytes  sizes
	responseBytes sizes
	exemplars     []exemplar // one per bucket
	dirty         bool       // changed since the last batch
}

type sizes struct {
	buckets []uint64
	sum     uint64
}

type exemplar struct {
	trace    [16]byte
	duration time.Duration
	at       time.Time
	fresh    bool // not yet in a batch
}

func newSeries(e *edge, k rowKey) *series {
	// Flags may be the joined text of several, owned by an exchange.
	k.protocol, k.flags, k.verdict = strings.Clone(k.protocol), strings.Clone(k.flags), strings.Clone(k.verdict)
	return &series{
		edge: e, key: k, notable: isNotable(k),
		buckets:       make([]uint64, len(vocab.DurationBuckets)+1),
		exemplars:     make([]exemplar, len(vocab.DurationBuckets)+1),
		requestBytes:  sizes{buckets: make([]uint64, len(vocab.SizeBuckets)+1)},
		responseBytes: sizes{buckets: make([]uint64, len(vocab.SizeBuckets)+1)},
	}
}

func (s *series) observe(r *record.Record) {
	bucket := bucketOf(vocab.DurationBuckets, float64(r.Duration)/float64(time.Millisecond))
	s.mu.Lock() // and no defer: this is every request's way
	s.requests++
	s.countDuration(histogram.Index(uint64(max(r.Duration, 0))))
	s.durationSum += uint64(max(r.Duration, 0))
	s.buckets[bucket]++
	s.requestBytes.add(r.BytesIn)
	s.responseBytes.add(r.BytesOut)
	// The slowest request since the last batch; an older one only until then.
	if e := &s.exemplars[bucket]; !e.fresh || r.Duration >= e.duration {
		*e = exemplar{trace: r.TraceID, duration: r.Duration, at: r.Start.Add(r.Duration), fresh: true}
	}
	s.dirty = true
	s.mu.Unlock()
}

func (s *series) countDuration(index int) {
	part := &s.durations[index/8]
	if *part == nil {
		*part = new([8]uint64)
	}
	(*part)[index%8]++
}

func (s *sizes) add(n uint64) {
	s.buckets[bucketOf(vocab.SizeBuckets, float64(n))]++
	s.sum += n
}

// bucketOf finds the first bound that holds v; past the last it is +Inf.
func bucketOf(bounds []float64, v float64) int {
	for i, b := range bounds {
		if v <= b {
			return i
		}
	}
	return len(bounds)
}

// proto copies the row. With take it is for a batch: it has the fresh exemplars
// only, and the series counts as told.
func (s *series) proto(edge uint32, take bool) *telemetryv1.Aggregate {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &s.key
	a := &telemetryv1.Aggregate{
		Edge: edge, Protocol: k.protocol, ResponseCode: k.code, ResponseFlags: k.flags, Verdict: k.verdict,
		Requests: s.requests, DurationSumNanos: s.durationSum,
		DurationBucket:     append([]uint64(nil), s.buckets...),
		RequestBytesBucket: append([]uint64(nil), s.requestBytes.buckets...), RequestBytesSum: s.requestBytes.sum,
		ResponseBytesBucket: append([]uint64(nil), s.responseBytes.buckets...), ResponseBytesSum: s.responseBytes.sum,
	}
	if k.grpc > 0 {
		a.GrpcStatus = strconv.Itoa(int(k.grpc) - 1)
	}
	for i, part := range s.durations {
		if part == nil {
			continue
		}
		for j, n := range part {
			if n > 0 {
				a.DurationIndex = append(a.DurationIndex, uint32(8*i+j))
				a.DurationCount = append(a.DurationCount, n)
			}
		}
	}
	for i := range s.exemplars {
		if e := &s.exemplars[i]; e.fresh || !take && !e.at.IsZero() {
			a.Exemplars = append(a.Exemplars, &telemetryv1.Exemplar{
				Bucket: uint32(i), TraceId: append([]byte(nil), e.trace[:]...),
				DurationNanos: int64(e.duration), TimeUnixNano: e.at.UnixNano(),
			})
			e.fresh = e.fresh && !take
		}
	}
	s.dirty = s.dirty && !take
	return a
}

func (s *series) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *series) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}
