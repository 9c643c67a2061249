package record

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDecode reads a block of 1000 records as a sidecar sends them.
func BenchmarkDecode(b *testing.B) {
	const rows = 1000
	rs := make([]Record, rows)
	for i := range rs {
		rs[i] = Record{
			Start: time.Unix(1_790_000_000, int64(i)*1e5), Duration: time.Duration(i * 7919 % 1e7), Edge: uint32(i % 60), Code: 200,
			BytesIn: uint64(i * 31 % 700), BytesOut: uint64(i * 17 % 5000), Attempts: 1, Protocol: "http", Method: "GET",
			TraceID: [16]byte{byte(i), byte(i >> 8), 1}, SpanID: [8]byte{byte(i), byte(i >> 8)},
			Path: fmt.Sprintf("/reviews/%d", i%500), Host: "reviews:9080", UserAgent: fmt.Sprint("Firefox/", i%50),
		}
	}
	e, err := NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	block := e.Append(nil, BlockOf(rs))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(block, rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
