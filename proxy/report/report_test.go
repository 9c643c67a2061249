package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

func request(code uint32, path string) *exchange.Exchange {
	return &exchange.Exchange{
		Direction: exchange.Inbound, DestinationService: "reviews", Security: "none",
		Source: &identity.Peer{Workload: "productpage"}, Destination: &identity.Peer{Workload: "reviews"},
		Record: record.Record{
			Start: time.Unix(1, 0), Duration: time.Millisecond, TraceID: ids.NewTraceID(),
			Protocol: "http", Method: "GET", Path: path, Code: code, Verdict: "ok",
		},
	}
}

func newEncoder(t *testing.T) *record.Encoder {
	t.Helper()
	enc, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

// decode is what a block says once it was sent.
func decode(t *testing.T, b *block) []record.Record {
	t.Helper()
	dec, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	columns, err := dec.Decode(newEncoder(t).Append(nil, &b.Block), b.Rows())
	if err != nil {
		t.Fatal(err)
	}
	rs := make([]record.Record, columns.Rows())
	for i := range rs {
		rs[i] = columns.Record(i)
	}
	return rs
}

func TestAFullRingForgetsTheOldestAndCountsIt(t *testing.T) {
	s := NewStore()
	const total = ringRecords + 10*blockRecords + 5
	for i := range total {
		s.Observe(request(200, fmt.Sprint("/", i)))
	}
	dropped := s.Dropped()[reasonRingFull]
	if dropped == 0 || dropped > total-ringRecords {
		t.Errorf("dropped = %d, want some, and no more than do not fit", dropped)
	}
	if s.QueueRatio() != 1 {
		t.Errorf("queue ratio = %v, want 1", s.QueueRatio())
	}
	oldest, more := s.ring.take()
	if oldest == nil || decode(t, oldest)[0].Path != fmt.Sprint("/", dropped) || !more {
		t.Errorf("the oldest is not the one after those %d that were dropped", dropped)
	}
	kept := uint64(oldest.Rows())
	s.ring.flush()
	for more {
		var next *block
		next, more = s.ring.take()
		kept += uint64(next.Rows())
	}
	if kept+dropped != total {
		t.Errorf("%d kept and %d dropped, want %d in all", kept, dropped, total)
	}
	if _, rows := s.Snapshot(); len(rows) != 1 || rows[0].GetRequests() != total {
		t.Error("the counts are not exact")
	}
}

func TestSeriesBeyondTheBoundAreCountedTogether(t *testing.T) {
	s := NewStore()
	const extra = 3000
	for i := range maxSeries + extra {
		x := request(200, "/")
		// All of it is the caller's own word.
		x.Source = &identity.Peer{Cluster: fmt.Sprint(i), Namespace: fmt.Sprint(i), Workload: fmt.Sprint(i), Service: fmt.Sprint(i), Version: fmt.Sprint(i), Instance: fmt.Sprint(i)}
		s.Observe(x)
	}
	_, rows := s.Snapshot()
	var requests uint64
	for _, r := range rows {
		requests += r.GetRequests()
	}
	if len(rows) != maxSeries+1 || requests != maxSeries+extra {
		t.Errorf("%d series with %d requests, want %d with %d", len(rows), requests, maxSeries+1, maxSeries+extra)
	}
	if s.Overflowed() != extra {
		t.Errorf("overflowed = %d, want %d", s.Overflowed(), extra)
	}
	// The hub takes at most 8 MiB at once.
	enc := newEncoder(t)
	told := 0
	for more := true; more; {
		b, left := s.batch(enc, time.Unix(1, 0), true)
		if n := proto.Size(b); n > 8<<20 {
			t.Fatalf("a batch has %d bytes", n)
		}
		told += len(b.GetAggregates())
		more = left
	}
	if told != maxSeries+1 {
		t.Errorf("%d series were told, want %d", told, maxSeries+1)
	}
}

func TestBatchesOfLongTextStaySmall(t *testing.T) {
	s := NewStore()
	for i := range 4096 {
		x := request(200, fmt.Sprint("/", i, strings.Repeat("x", 2000)))
		x.Record.Attributes = map[string]string{"k": strings.Repeat("y", 1000)}
		s.Observe(x)
	}
	b, more := s.batch(newEncoder(t), time.Unix(1, 0), true)
	if n := b.GetRecordCount(); !more || n != blockRecords || proto.Size(b) > 2<<20 {
		t.Errorf("%d records in %d bytes, more = %v; want a block in less than 2 MiB, and more", n, proto.Size(b), more)
	}
}

func TestTextThatIsNotUTF8DoesNotStopReports(t *testing.T) {
	s := NewStore()
	x := request(200, "/\xff")
	x.Source.Workload, x.Source.Namespace, x.DestinationService = "evil\xff", "\xc3\x28", "host\xfe"
	s.Observe(x)
	s.ring.flush()
	b, _ := s.batch(newEncoder(t), time.Unix(1, 0), true)
	if _, err := proto.Marshal(b); err != nil {
		t.Errorf("encode batch: %v", err)
	}
}

func TestABatchTellsASeriesOnlyWhenItChanged(t *testing.T) {
	s, enc := NewStore(), newEncoder(t)
	s.Observe(request(200, "/"))
	s.ring.flush()
	first, _ := s.batch(enc, time.Unix(1, 0), true)
	if len(first.GetAggregates()) != 1 || len(first.GetAggregates()[0].GetExemplars()) != 1 {
		t.Fatalf("first batch = %v, want one series with its exemplar", first)
	}
	if b, _ := s.batch(enc, time.Unix(1, 0), true); b != nil {
		t.Errorf("second batch = %v, want none", b)
	}
	s.retell()
	again, _ := s.batch(enc, time.Unix(1, 0), true)
	if len(again.GetAggregates()) != 1 || again.GetAggregates()[0].GetRequests() != 1 {
		t.Errorf("retold = %v, want the series as it was", again)
	}
	if _, rows := s.Snapshot(); len(rows[0].GetExemplars()) != 1 {
		t.Error("the exemplar is gone from /metrics once it was in a batch")
	}
}

func TestExemplarIsTheSlowestOfItsBucket(t *testing.T) {
	s := NewStore()
	for _, d := range []time.Duration{2, 4, 3} {
		x := request(200, "/")
		x.Record.Duration = d * time.Millisecond
		s.Observe(x)
	}
	_, rows := s.Snapshot()
	if e := rows[0].GetExemplars(); len(e) != 1 || e[0].GetDurationNanos() != 4e6 {
		t.Errorf("exemplars = %v, want the one of 4 ms", e)
	}
}

func TestBytesLimitKeepsWholeCharacters(t *testing.T) {
	if got := BytesLimit("short", 10); got != "short" {
		t.Errorf("got %q", got)
	}
	got := BytesLimit(strings.Repeat("é", 100), 10)
	if len(got) > 10 || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
		t.Errorf("got %q", got)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	s := NewStore()
	x := request(200, "/reviews/1?a=b")
	x.Record.UserAgent, x.Record.Host = "wrk", "reviews:9080"
	for range 20 * ringRecords / blockRecords * blockRecords { // every block is made
		s.Observe(x)
	}
	if n := testing.AllocsPerRun(1000, func() { s.Observe(x) }); n != 0 {
		t.Errorf("%v allocations to observe a request, want 0", n)
	}
}

func TestRecordsOutliveTheBuffersTheirTextsCameFrom(t *testing.T) {
	s := NewStore()
	buffer := []byte("GET /a/path reviews:9080 curl/8 0123456789")
	text := func(from, to int) string { return unsafe.String(&buffer[from], to-from) }
	x := request(200, "")
	x.Record.Method, x.Record.Path, x.Record.Host = text(0, 3), text(4, 11), text(12, 24)
	x.Record.UserAgent, x.Record.RequestID = text(25, 31), text(32, 42)
	s.Observe(x)
	s.ring.flush()
	clear(buffer)
	got, _ := s.ring.take()
	r := decode(t, got)[0]
	if all := r.Method + r.Path + r.Host + r.UserAgent + r.RequestID; all != "GET/a/pathreviews:9080curl/80123456789" {
		t.Errorf("the record says %q", all)
	}
}

func BenchmarkObserve(b *testing.B) {
	s := NewStore()
	x := request(200, "/reviews/1?a=b")
	x.Record.UserAgent, x.Record.Host = "wrk", "reviews:9080"
	b.ReportAllocs()
	for b.Loop() {
		s.Observe(x)
	}
}
