package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/ids"
)

// countingRange counts what is read of it.
type countingRange struct {
	Range
	mu    sync.Mutex // guards the fields below
	reads int
	bytes int
}

func (c *countingRange) ReadRange(ctx context.Context, p []byte, offset int64) error {
	c.mu.Lock()
	c.reads++
	c.bytes += len(p)
	c.mu.Unlock()
	return c.Range.ReadRange(ctx, p, offset)
}

func (c *countingRange) take() (reads, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reads, bytes = c.reads, c.bytes
	c.reads, c.bytes = 0, 0
	return reads, bytes
}

// files are a segment in memory.
type files struct{ data, index []byte }

func readFiles(t testing.TB, path string) files {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(IndexPath(path))
	if err != nil {
		t.Fatal(err)
	}
	return files{data, index}
}

func (f files) open(d *Decoder) (*Segment, *countingRange, error) {
	r := &countingRange{Range: LocalRange{bytes.NewReader(f.data)}}
	s, err := Open(r, bytes.NewReader(f.index), int64(len(f.index)), Options{Name: "1", Decoder: d})
	return s, r, err
}

func newTestDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func mustOpen(t testing.TB, path string) (*Segment, *countingRange) {
	t.Helper()
	s, r, err := readFiles(t, path).open(newTestDecoder(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Damaged()) > 0 {
		t.Fatal("damaged:", s.Damaged())
	}
	return s, r
}

// findNaively is what Find promises, over all records.
func findNaively(all []Found, id string) []Found {
	if id == "" {
		return nil
	}
	trace, isTrace := ids.ParseTraceID(id)
	traces := map[[16]byte]bool{}
	for _, f := range all {
		if f.Record.RequestID == id && f.Record.TraceID != ([16]byte{}) {
			traces[f.Record.TraceID] = true
		}
	}
	if isTrace {
		traces[trace] = true
	}
	var out []Found
	for _, f := range all {
		if traces[f.Record.TraceID] || f.Record.RequestID == id {
			out = append(out, f)
		}
	}
	return out
}

func scanAll(t testing.TB, s *Segment, q Query) []Found {
	t.Helper()
	var out []Found
	err := s.Scan(t.Context(), q, func(r *Rows) bool {
		found, err := r.RecordsAt(t.Context(), r.Selected())
		if err != nil {
			t.Error(err)
		}
		out = append(out, found...)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return out
}

// TestSegmentHoldsWhatWasAdded is the property of all reading functions.
func TestSegmentHoldsWhatWasAdded(t *testing.T) {
	c, dir, d := newCodec(t), t.TempDir(), newTestDecoder(t)
	rapid.Check(t, func(rt *rapid.T) {
		batches := genBatches(rt, t, c)
		path := filepath.Join(dir, "1.parquet")
		buildAt(t, path, BuilderOptions{Window: rapid.IntRange(1, 20).Draw(rt, "window"), Seed: 7}, batches...)
		f := readFiles(t, path)
		s, _, err := f.open(d)
		if err != nil {
			rt.Fatal(err)
		}
		all := expected(batches...)
		if diff := diffFound(slices.Clone(all), scanAll(t, s, Query{})); diff != "" {
			rt.Fatal("scan (-want +got)\n", diff)
		}
		if err := s.Verify(t.Context()); err != nil {
			rt.Fatal("verify:", err)
		}
		again, err := Reindex(t.Context(), LocalRange{bytes.NewReader(f.data)}, int64(len(f.data)), 7, Options{Decoder: d})
		if err != nil || !bytes.Equal(again, f.index) {
			rt.Fatal("reindex gives another index:", err)
		}
		for _, r := range all[:min(len(all), 6)] {
			for _, id := range []string{r.Record.RequestID, ids.TraceID(r.Record.TraceID).String(), ids.TraceID(r.Record.TraceID).UUID()} {
				if id == (ids.TraceID{}).String() || id == (ids.TraceID{}).UUID() {
					continue
				}
				got, err := s.Find(t.Context(), id, 1000)
				if err != nil {
					rt.Fatal(err)
				}
				if diff := diffFound(findNaively(all, id), got); diff != "" {
					rt.Fatalf("find %q (-want +got)\n%s", id, diff)
				}
			}
		}
	})
}

func TestScanTakesWhatMatches(t *testing.T) {
	batches := bookinfoBatches(t, 3, 20_000)
	s, _ := mustOpen(t, build(t, BuilderOptions{Window: 9000}, batches...))
	all := expected(batches...)
	at := func(ms int64) time.Time { return time.Unix(0, bookinfoStart+ms*1e6) }
	for _, c := range []struct {
		name  string
		q     Query
		match func(*Found) bool
	}{
		{"all", Query{}, func(*Found) bool { return true }},
		{"time", Query{From: at(500), To: at(900)}, func(f *Found) bool {
			return !f.Record.Start.Before(at(500)) && f.Record.Start.Before(at(900))
		}},
		{"destination", Query{Destination: "reviews"}, func(f *Found) bool { return f.Edge.GetDestination().GetService() == "reviews" }},
		{"source", Query{Source: "reviews"}, func(f *Found) bool { return f.Edge.GetSource().GetService() == "reviews" }},
		{"failed", Query{Failed: true, Destination: "ratings"}, func(f *Found) bool {
			return f.Record.Code == 503 && f.Edge.GetDestination().GetService() == "ratings"
		}},
		{"least code", Query{MinCode: 500}, func(f *Found) bool { return f.Record.Code >= 500 }},
		{"slow", Query{MinDuration: 20 * time.Millisecond}, func(f *Found) bool { return f.Record.Duration >= 20*time.Millisecond }},
		{"protocol", Query{Protocol: "grpc"}, func(f *Found) bool { return false }},
		{"path", Query{PathPrefix: "/details/77"}, func(f *Found) bool { return strings.HasPrefix(f.Record.Path, "/details/77") }},
		{"unknown service", Query{Destination: "nobody"}, func(f *Found) bool { return false }},
		{"all of it, backwards", Query{From: at(100), Destination: "reviews", MinDuration: 10 * time.Millisecond, Protocol: "http", PathPrefix: "/reviews/1", Backwards: true}, func(f *Found) bool {
			return !f.Record.Start.Before(at(100)) && f.Edge.GetDestination().GetService() == "reviews" &&
				f.Record.Duration >= 10*time.Millisecond && strings.HasPrefix(f.Record.Path, "/reviews/1")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []Found
			for i := range all {
				if c.match(&all[i]) {
					want = append(want, all[i])
				}
			}
			got := scanAll(t, s, c.q)
			if len(got) != len(want) {
				t.Fatalf("%d records, want %d", len(got), len(want))
			}
			want, got = sortFound(want), sortFound(got)
			for i := 0; i < len(want); i += 211 {
				if diff := diffFound(want[i:i+1], got[i:i+1]); diff != "" {
					t.Fatalf("record %d (-want +got)\n%s", i, diff)
				}
			}
		})
	}
}

func TestScanReadsOnlyWhatItMust(t *testing.T) {
	s, r := mustOpen(t, build(t, BuilderOptions{Window: 8192}, bookinfoBatches(t, 3, 40_000)...))
	r.take()
	var rows int
	q := Query{Columns: []Column{Code, Duration, SourceWorkload}}
	err := s.Scan(t.Context(), q, func(b *Rows) bool {
		code, duration := b.Ints(Code), b.Ints(Duration)
		dict, codes := b.Texts(SourceWorkload)
		for _, row := range b.Selected() {
			if code[row] == 0 || duration[row] < 0 || dict[codes[row]] == "" {
				t.Errorf("row %d: %d %d %q", row, code[row], duration[row], dict[codes[row]])
			}
		}
		if dict, _ := b.Texts(Path); dict != nil || b.Ints(BytesIn) != nil {
			t.Error("columns that were not asked for are there")
		}
		rows += len(b.Selected())
		return true
	})
	if err != nil || rows != 40_000 {
		t.Fatal(rows, err)
	}
	if _, n := r.take(); int64(n) > s.Size()/2 {
		t.Errorf("read %d of %d bytes for three columns", n, s.Size())
	}
	none := func(*Rows) bool { t.Error("a match"); return true }
	for _, q := range []Query{
		{To: time.Unix(0, bookinfoStart)}, {MinCode: 504}, {MinDuration: time.Hour}, {Destination: "nobody"}, {Source: "ratings"},
		{Failed: true, Destination: "productpage"},
	} {
		if err := s.Scan(t.Context(), q, none); err != nil {
			t.Error(err)
		}
		if reads, _ := r.take(); reads != 0 {
			t.Errorf("%+v: %d reads where the index rules all out", q, reads)
		}
	}
}

func TestFindReadsEachRowGroupOnce(t *testing.T) {
	batches := bookinfoBatches(t, 5, 30_000)
	// One request ID on a record in each of several groups, and traces that have it.
	rs := make([]record.Record, 100)
	for i := range rs {
		rs[i] = record.Record{Start: time.Unix(0, bookinfoStart+int64(i)*30e6), TraceID: [16]byte{byte(i / 2 * 5), 15: 1}, SpanID: [8]byte{byte(i)}}
		if i%40 == 0 {
			rs[i].RequestID = "order-4711"
		}
	}
	batches = append(batches, newCodec(t).batch(t, rs, nil, "x"))
	s, r := mustOpen(t, build(t, BuilderOptions{}, batches...))
	all := expected(batches...)
	for i := 0; i < len(all); i += 1009 {
		r.take()
		id := ids.TraceID(all[i].Record.TraceID).String()
		got, err := s.Find(t.Context(), id, 1000)
		if want := findNaively(all, id); err != nil || len(got) != len(want) {
			t.Fatalf("found %d of %d: %v", len(got), len(want), err)
		}
		if reads, n := r.take(); reads != 1 || n > 500_000 {
			t.Errorf("%d reads of %d bytes", reads, n)
		}
	}
	got, err := s.Find(t.Context(), "order-4711", 1000)
	if err != nil || len(got) != 6 {
		t.Fatalf("found %d of 6 by request ID: %v", len(got), err)
	}
	if reads, _ := r.take(); reads != 3 {
		t.Errorf("%d reads, want 3: one for each row group with a part of it", reads)
	}
	if got, err := s.Find(t.Context(), "order-4711", 4); err != nil || len(got) != 4 {
		t.Errorf("found %d with a limit of 4: %v", len(got), err)
	}
	for _, id := range []string{"", "nobody's", ids.TraceID{9: 9}.String()} {
		if got, err := s.Find(t.Context(), id, 1000); len(got) != 0 || err != nil {
			t.Errorf("%q: found %d: %v", id, len(got), err)
		}
	}
	if got, err := s.FindTraces(t.Context(), []ids.TraceID{{0, 15: 1}, {5, 15: 1}, {}}, 1000); err != nil || len(got) != 4 {
		t.Errorf("found %d of the 4 records of two traces: %v", len(got), err)
	}
}

// collidingTraces are two IDs that one entry of the index stands for.
func collidingTraces(t *testing.T, h hashes) (a, b [16]byte) {
	t.Helper()
	seen := make(map[uint64]uint32)
	for i := range uint32(1 << 24) { // 2^20 tries have even odds
		var id [16]byte
		binary.BigEndian.PutUint32(id[:], i+1)
		if other, ok := seen[h.trace(id)]; ok {
			binary.BigEndian.PutUint32(a[:], other)
			return a, id
		}
		seen[h.trace(id)] = i + 1
	}
	t.Fatal("no collision")
	return a, b
}

func TestFindTellsCollidingHashesApart(t *testing.T) {
	const seed = 99
	a, b := collidingTraces(t, hashes{seed})
	one := newCodec(t).batch(t, []record.Record{
		{Start: time.Unix(1, 0), TraceID: a, Path: "/a"}, {Start: time.Unix(1, 0), TraceID: b, Path: "/b"},
		{Start: time.Unix(1, 0), TraceID: a, RequestID: "r", Path: "/a2"},
	}, nil, "x")
	batches := append(bookinfoBatches(t, 1, 20_000), one)
	s, _ := mustOpen(t, build(t, BuilderOptions{Seed: seed}, batches...))
	for id, want := range map[string][]string{
		ids.TraceID(a).String(): {"/a", "/a2"}, ids.TraceID(b).UUID(): {"/b"}, "r": {"/a", "/a2"},
	} {
		found, err := s.Find(t.Context(), id, 100)
		var got []string
		for _, f := range found {
			got = append(got, f.Record.Path)
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", id, got, err, want)
		}
	}
}

func TestAggregatesAreTheSumsOfTheRecords(t *testing.T) {
	batches := bookinfoBatches(t, 9, 12_000)
	extra := make([]record.Record, 5) // before 1970, in another minute, refused, client errors, gRPC
	for i := range extra {
		extra[i] = record.Record{Start: time.Unix(-61, 0), Protocol: "grpc", Code: 200}
	}
	extra[1].Start, extra[1].Code = time.Unix(600, 0), 404
	extra[2].Verdict, extra[2].Code = "denied", 403
	extra[3].Verdict, extra[3].Code = "throttled", 429
	extra[4].GRPCStatus = 15
	edge := &telemetryv1.Edge{Destination: &telemetryv1.Identity{Service: "x", Instance: "x-1"}}
	batches = append(batches, newCodec(t).batch(t, extra, []*telemetryv1.Edge{edge}, "x"))
	s, r := mustOpen(t, build(t, BuilderOptions{Window: 5000}, batches...))
	r.take()
	got, err := s.Aggregates()
	if err != nil {
		t.Fatal(err)
	}
	if reads, _ := r.take(); reads != 0 {
		t.Errorf("%d reads of the data", reads)
	}
	type sums struct {
		Counts
		h histogram.Sparse
	}
	key := func(minute time.Time, e *telemetryv1.Edge, protocol string) string {
		s, d := e.GetSource(), e.GetDestination()
		return fmt.Sprint(minute.Unix(), e.GetReporter(), s.GetWorkload(), d.GetWorkload(), d.GetService(), e.GetDestinationService(), protocol)
	}
	want := make(map[string]*sums)
	for _, f := range expected(batches...) {
		k := key(f.Record.Start.Truncate(time.Minute), f.Edge, f.Record.Protocol)
		if want[k] == nil {
			want[k] = &sums{}
		}
		w := want[k]
		w.classify(int64(f.Record.Code), int64(f.Record.GRPCStatus), f.Record.Verdict)
		w.BytesIn += f.Record.BytesIn
		w.BytesOut += f.Record.BytesOut
		w.h.Add(histogram.Index(uint64(f.Record.Duration)), 1)
	}
	if len(got) != len(want) {
		t.Fatalf("%d aggregates, want %d", len(got), len(want))
	}
	for i := range got {
		a := &got[i]
		w := want[key(a.Minute, a.Edge, a.Protocol)]
		if w == nil || w.Counts != a.Counts || w.h.Count() != a.Duration.Count() || w.h.Quantile(0.9) != a.Duration.Quantile(0.9) {
			t.Errorf("%v %v: %+v, want %+v", a.Minute, a.Edge, a.Counts, w)
		}
		if a.Edge.GetDestination().GetInstance() != "" {
			t.Error("an aggregate names an instance")
		}
	}
}

func TestSealedOrAbortedBuilderTakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.parquet")
	b, err := NewBuilder(path, BuilderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one := bookinfoBatches(t, 1, 10)[0]
	if err := b.Add(one.columns, one.edges, one.sender); err != nil || b.Rows() != 10 {
		t.Fatal(err, b.Rows())
	}
	if err := errors.Join(b.Abort(), b.Abort()); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(one.columns, one.edges, one.sender); err == nil {
		t.Error("an aborted builder takes records")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Error("left behind:", left)
	}
	buildAt(t, path, BuilderOptions{}, one)
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 2 {
		t.Error("want the segment and its index, not", left)
	}
}

// TestASegmentThatCannotTakeItsNameLeavesNothing puts a folder where the segment
// should be.
func TestASegmentThatCannotTakeItsNameLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.parquet")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := NewBuilder(path, BuilderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	one := bookinfoBatches(t, 1, 10)[0]
	if err := b.Add(one.columns, one.edges, one.sender); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Seal(); err == nil {
		t.Error("sealed where it cannot be")
	}
	if err := b.Abort(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Error("left behind:", left)
	}
}

func TestTextsThatAreNotUTF8AreMadeSo(t *testing.T) {
	rs := []record.Record{{
		Start: time.Unix(1, 0), TraceID: [16]byte{1}, RequestID: "r\xff", Path: "/\xfe", Attributes: map[string]string{"k\xff": "v\xff"},
	}}
	path := build(t, BuilderOptions{}, newCodec(t).batch(t, rs, nil, "s\xff"))
	open := readOpen(t, path)
	if len(open) != 1 || open[0].Record.Path != "/\uFFFD" || open[0].Sender != "s\uFFFD" || open[0].Record.Attributes["k\uFFFD"] != "v\uFFFD" {
		t.Errorf("%+v", open)
	}
	s, _ := mustOpen(t, path)
	if found, err := s.Find(t.Context(), "r\xff", 10); err != nil || len(found) != 1 {
		t.Errorf("found %d by the ID as it was sent: %v", len(found), err)
	}
}
