package recordgen

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
)

// count adds a record to the cumulative series of its edge.
func (s *Sender) count(e edgeKey, r *record.Record) {
	k := seriesKey{e, r.Code}
	a := s.series[k]
	if a == nil {
		a = &telemetryv1.Aggregate{
			Protocol: r.Protocol, ResponseCode: r.Code, ResponseFlags: "-", Verdict: r.Verdict,
			DurationBucket:      make([]uint64, len(vocab.DurationBuckets)+1),
			RequestBytesBucket:  make([]uint64, len(vocab.SizeBuckets)+1),
			ResponseBytesBucket: make([]uint64, len(vocab.SizeBuckets)+1),
		}
		if r.Flags != "" {
			a.ResponseFlags = r.Flags
		}
		s.series[k] = a
	}
	s.changed[k] = true
	a.Requests++
	index := uint32(histogram.Index(uint64(r.Duration)))
	at, ok := slices.BinarySearch(a.DurationIndex, index)
	if !ok {
		a.DurationIndex, a.DurationCount = slices.Insert(a.DurationIndex, at, index), slices.Insert(a.DurationCount, at, 0)
	}
	a.DurationCount[at]++
	a.DurationBucket[bucket(vocab.DurationBuckets, float64(r.Duration)/float64(time.Millisecond))]++
	a.DurationSumNanos += uint64(r.Duration)
	a.RequestBytesBucket[bucket(vocab.SizeBuckets, float64(r.BytesIn))]++
	a.RequestBytesSum += r.BytesIn
	a.ResponseBytesBucket[bucket(vocab.SizeBuckets, float64(r.BytesOut))]++
	a.ResponseBytesSum += r.BytesOut
}

// bucket is the first whose bound holds v.
func bucket(bounds []float64, v float64) int {
	i, _ := slices.BinarySearch(bounds, v)
	return i
}

// Batch takes what the sender has not sent: its records, and the series that
// changed. Sequence and epoch are the caller's.
func (s *Sender) Batch(e *record.Encoder, now time.Time) *telemetryv1.Batch {
	b := &telemetryv1.Batch{
		Sender: s.Node.GetInstance(), Node: s.Node, TimeUnixNano: now.UnixNano(), Edges: s.Edges, RecordCount: uint32(s.Block.Rows()),
	}
	if s.Block.Rows() > 0 {
		b.Records = e.Append(nil, &s.Block)
	}
	for k := range s.changed {
		a := proto.CloneOf(s.series[k])
		a.Edge = s.index[k.edge]
		b.Aggregates = append(b.Aggregates, a)
	}
	clear(s.changed)
	clear(s.index)
	s.Edges = nil // the batch has them
	s.Block.Reset()
	return b
}
