package report

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

// edgeKey identifies an edge as this sidecar reports it.
type edgeKey struct {
	reporter            telemetryv1.Reporter
	source, destination identity.Peer
	service, security   string
}

func edgeOf(x *exchange.Exchange) edgeKey {
	k := edgeKey{
		reporter: telemetryv1.Reporter_REPORTER_SOURCE, source: valid(x.Source), destination: valid(x.Destination),
		service: validText(x.DestinationService), security: x.Security,
	}
	if x.Direction == exchange.Inbound {
		k.reporter = telemetryv1.Reporter_REPORTER_DESTINATION
	}
	return k
}

// valid makes a peer's words fit for protobuf and Prometheus, which refuse text
// that is not UTF-8: one such header would stop all reports for good.
func valid(p identity.Peer) identity.Peer {
	return identity.Peer{
		Cluster: validText(p.Cluster), Namespace: validText(p.Namespace), Workload: validText(p.Workload), Service: validText(p.Service),
		Version: validText(p.Version), Principal: validText(p.Principal), Instance: validText(p.Instance),
	}
}

func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func (k edgeKey) proto() *telemetryv1.Edge {
	return &telemetryv1.Edge{
		Reporter: k.reporter, Source: k.source.Proto(), Destination: k.destination.Proto(),
		DestinationService: k.service, Security: k.security,
	}
}

// seriesKey identifies one cumulative series.
type seriesKey struct {
	edge     edgeKey
	protocol string
	code     uint32
	grpc     string
	flags    string
	verdict  string
}

// series is one row of tier 0, cumulative since the process started.
type series struct {
	mu            sync.Mutex // guards the fields below
	requests      uint64
	durations     map[uint32]uint64 // log-linear index to count
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

func newSeries() *series {
	return &series{
		durations:     make(map[uint32]uint64),
		buckets:       make([]uint64, len(vocab.DurationBuckets)+1),
		exemplars:     make([]exemplar, len(vocab.DurationBuckets)+1),
		requestBytes:  sizes{buckets: make([]uint64, len(vocab.SizeBuckets)+1)},
		responseBytes: sizes{buckets: make([]uint64, len(vocab.SizeBuckets)+1)},
	}
}

func (s *series) observe(x *exchange.Exchange) {
	r := &x.Record
	bucket := bucketOf(vocab.DurationBuckets, float64(r.Duration)/float64(time.Millisecond))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.durations[uint32(histogram.Index(uint64(max(r.Duration, 0))))]++
	s.durationSum += uint64(max(r.Duration, 0))
	s.buckets[bucket]++
	s.requestBytes.add(r.BytesIn)
	s.responseBytes.add(r.BytesOut)
	// The slowest request since the last batch; an older one only until then.
	if e := &s.exemplars[bucket]; !e.fresh || r.Duration >= e.duration {
		*e = exemplar{trace: r.TraceID, duration: r.Duration, at: r.Start.Add(r.Duration), fresh: true}
	}
	s.dirty = true
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
func (s *series) proto(k seriesKey, edge uint32, take bool) *telemetryv1.Aggregate {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &telemetryv1.Aggregate{
		Edge: edge, Protocol: k.protocol, ResponseCode: k.code, GrpcStatus: k.grpc, ResponseFlags: k.flags, Verdict: k.verdict,
		Requests: s.requests, DurationSumNanos: s.durationSum,
		DurationBucket:     append([]uint64(nil), s.buckets...),
		RequestBytesBucket: append([]uint64(nil), s.requestBytes.buckets...), RequestBytesSum: s.requestBytes.sum,
		ResponseBytesBucket: append([]uint64(nil), s.responseBytes.buckets...), ResponseBytesSum: s.responseBytes.sum,
	}
	a.DurationIndex = slices.Sorted(maps.Keys(s.durations))
	for _, i := range a.GetDurationIndex() {
		a.DurationCount = append(a.DurationCount, s.durations[i])
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

func (s *series) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}
