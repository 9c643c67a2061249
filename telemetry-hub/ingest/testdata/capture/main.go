// Capture writes the batches of wire_test.go as the tree that it is copied into
// encodes them: see ../README.md. It is for trees whose Encoder takes records.
package main

import (
	"encoding/binary"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

func main() {
	enc, err := record.NewEncoder()
	if err != nil {
		panic(err)
	}
	var out []byte
	for _, sequence := range []uint64{1, 2} {
		rs := records(sequence)
		b, err := proto.Marshal(&telemetryv1.Batch{
			Sender: "reviews-1", Epoch: 7, Sequence: sequence, TimeUnixNano: 1_790_000_000_000_000_000,
			Node: &telemetryv1.Identity{Namespace: "default", Workload: "reviews-v1", Service: "reviews", Instance: "reviews-1"},
			Edges: []*telemetryv1.Edge{
				{Reporter: telemetryv1.Reporter_REPORTER_DESTINATION, Source: &telemetryv1.Identity{Workload: "productpage-v1"}, DestinationService: "reviews"},
				{Reporter: telemetryv1.Reporter_REPORTER_SOURCE, Destination: &telemetryv1.Identity{Workload: "ratings-v1"}, DestinationService: "ratings"},
			},
			Aggregates: []*telemetryv1.Aggregate{{
				Protocol: "http", ResponseCode: 200, ResponseFlags: "-", Verdict: "ok", Requests: 10 * sequence,
				DurationIndex: []uint32{8, 90}, DurationCount: []uint64{sequence, 9 * sequence}, DurationBucket: make([]uint64, 13), DurationSumNanos: 1e9 * sequence,
				RequestBytesBucket: make([]uint64, 7), ResponseBytesBucket: make([]uint64, 7),
			}},
			RecordCount: uint32(len(rs)), Records: enc.Append(nil, rs),
			Saturation: &telemetryv1.Saturation{Goroutines: 12, ReportQueueRatio: 0.5},
			Dropped:    []*telemetryv1.Dropped{{Reason: "ring_full", Records: sequence}},
		})
		if err != nil {
			panic(err)
		}
		out = append(binary.AppendUvarint(out, uint64(len(b))), b...)
	}
	if err := os.WriteFile(os.Args[1], out, 0o644); err != nil {
		panic(err)
	}
}

// records of a batch: those of the first have texts that repeat and all columns,
// those of the second mostly ids, which later versions do not compress.
func records(sequence uint64) []record.Record {
	rs := make([]record.Record, 20)
	for i := range rs {
		n := byte(i + 1)
		rs[i] = record.Record{
			Start: time.Unix(1_790_000_000, int64(i)*1e6), Duration: time.Duration(i) * time.Millisecond,
			TraceID: [16]byte{n, byte(sequence), 15: n}, SpanID: [8]byte{n, 7: 1}, Edge: uint32(i % 2),
			Protocol: "http", Method: "GET", Path: "/", Code: 200, Attempts: 1, Verdict: "ok",
		}
		if sequence == 2 {
			continue
		}
		r := &rs[i]
		r.ParentSpanID, r.FirstByte, r.RequestID = [8]byte{n}, time.Duration(i)*time.Microsecond, string(rune('a'+i))
		r.HTTPVersion, r.Path, r.Host, r.Route = "HTTP/1.1", "/reviews/"+string(rune('0'+i%7)), "reviews:9080", "inbound|9080||"
		r.BytesIn, r.BytesOut, r.Upstream, r.UserAgent, r.Sampled = uint64(i*100), uint64(i*1000), "127.0.0.1:9080", "Mozilla/5.0", i%3 == 0
		if i%5 == 0 {
			r.Code, r.Flags, r.Detail, r.GRPCStatus = 503, "UF,URX", "upstream_reset", 15
			r.Verdict, r.Rule, r.Attributes = "denied", "default/p/r", map[string]string{"tenant": "a&b", "tier": "gold"}
		}
	}
	return rs
}
