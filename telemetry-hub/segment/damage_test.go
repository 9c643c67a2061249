package segment

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
)

// smallSegment has two row groups of a few records with all columns in use.
func smallSegment(t testing.TB) (string, []Found) {
	t.Helper()
	c := newCodec(t)
	g := newBookinfo(t, c, 11, time.Millisecond)
	var batches []batch
	for i := range 2 { // a window, and so a row group, each
		rs := g.next(24)
		for j := range rs {
			rs[j].Attributes = map[string]string{"tenant": fmt.Sprint(j % 3)}
			rs[j].GRPCStatus = uint32(j % 3)
			if j%4 == 0 {
				rs[j].RequestID = fmt.Sprintf("order-%d-%d", i, j)
			}
		}
		batches = append(batches, c.batch(t, rs, g.edges, "pod-1"))
	}
	return build(t, BuilderOptions{Window: 24, Seed: 5, Writer: "telemesh golden"}, batches...), expected(batches...)
}

// traceNotIn is the ID of a trace of one row group that has no record in the
// other one.
func traceNotIn(t *testing.T, other, group []Found) string {
	t.Helper()
	for _, f := range group {
		if id := ids.TraceID(f.Record.TraceID).String(); len(findNaively(other, id)) == 0 {
			return id
		}
	}
	t.Fatal("every trace has records in both row groups")
	return ""
}

// placeOf names what stands at an offset of the data file.
func placeOf(t *testing.T, s *Segment, offset int64) (group int, name string) {
	t.Helper()
	for i := range s.header.groups {
		d, err := s.groupData(i)
		if err != nil {
			t.Fatal(err)
		}
		for leaf, c := range s.columns {
			if offset >= d.at[leaf] && offset < d.at[leaf+1] {
				return i, fmt.Sprintf("row group %d, column %s", i, c.name)
			}
		}
	}
	if offset < 4 {
		return -1, "magic"
	}
	return -1, "footer"
}

// flipStep is prime to eight, so that all bits of a byte have their turn. Run
// once with 1 after a change of the format: it takes minutes.
const flipStep = 1021

func TestAFlippedBitOfTheDataIsNamedAndCostsItsColumn(t *testing.T) {
	path, all := smallSegment(t)
	clean, d := readFiles(t, path), newTestDecoder(t)
	s, _, err := clean.open(d)
	if err != nil {
		t.Fatal(err)
	}
	half := [2][]Found{all[:24], all[24:]}
	alone := [2]string{traceNotIn(t, half[1], half[0]), traceNotIn(t, half[0], half[1])}
	for bit := 0; bit < len(clean.data)*8; bit += flipStep {
		f := files{bytes.Clone(clean.data), clean.index}
		f.data[bit/8] ^= 1 << (bit % 8)
		group, name := placeOf(t, s, int64(bit/8))
		hurt, _, err := f.open(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := hurt.Verify(t.Context()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Fatalf("bit %d of the %s: verify says %v", bit, name, err)
		}
		if group < 0 {
			continue
		}
		// The other group is whole, and nothing that is handed out is made up.
		got := 0
		err = hurt.Scan(t.Context(), Query{}, func(r *Rows) bool {
			found, err := r.RecordsAt(t.Context(), r.Selected())
			if r.data.number == group {
				if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) {
					t.Errorf("bit %d of the %s: scan says %v", bit, name, err)
				}
			} else if got += len(found); err != nil || diffFound(slices.Clone(half[r.data.number]), found) != "" {
				t.Errorf("bit %d of the %s: the other row group: %v", bit, name, err)
			}
			return true
		})
		if got != 24 || err != nil {
			t.Errorf("bit %d of the %s: %d records of the other row group: %v", bit, name, got, err)
		}
		id := alone[1-group]
		if found, err := hurt.Find(t.Context(), id, 100); err != nil || len(found) != len(findNaively(all, id)) {
			t.Errorf("bit %d of the %s: found %d in the other row group: %v", bit, name, len(found), err)
		}
	}
}

func TestAFlippedBitOfTheIndexIsNoticedAndLosesNothing(t *testing.T) {
	path, all := smallSegment(t)
	clean, d := readFiles(t, path), newTestDecoder(t)
	id := ids.TraceID(all[3].Record.TraceID).String()
	want := findNaively(all, id)
	for bit := 0; bit < len(clean.index)*8; bit += flipStep {
		f := files{clean.data, bytes.Clone(clean.index)}
		f.index[bit/8] ^= 1 << (bit % 8)
		s, _, err := f.open(d)
		if err != nil {
			if bit/8 >= len(indexMagic)+4 && !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d: open says %v", bit, err)
			}
			continue
		}
		if err := s.Verify(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d: verify says %v", bit, err)
		}
		// Damaged hashes make a look-up slow, not wrong; a damaged entry of a
		// row group is told.
		found, err := s.Find(t.Context(), id, 100)
		if len(found) != len(want) && !errors.Is(err, ErrCorrupt) && len(s.Damaged()) == 0 {
			t.Errorf("bit %d: found %d of %d without an error", bit, len(found), len(want))
		}
		if !errors.Is(err, ErrCorrupt) && diffFound(slices.Clone(want), found) != "" && len(s.Damaged()) == 0 {
			t.Errorf("bit %d: found other records than there are", bit)
		}
		if aggregates, err := s.Aggregates(); err == nil {
			n := uint64(0)
			for i := range aggregates {
				n += aggregates[i].Requests
			}
			if n != uint64(len(all)) {
				t.Errorf("bit %d: aggregates of %d records", bit, n)
			}
		}
	}
}

func TestTruncatedFilesAreRefusedOrTold(t *testing.T) {
	path, all := smallSegment(t)
	clean, d := readFiles(t, path), newTestDecoder(t)
	for n := 0; n < len(clean.index); n += 7 {
		if _, _, err := (files{clean.data, clean.index[:n]}).open(d); err == nil {
			t.Errorf("an index of %d of its %d bytes is taken", n, len(clean.index))
		}
	}
	id := ids.TraceID(all[3].Record.TraceID).String()
	for n := 0; n < len(clean.data); n += 101 {
		f := files{clean.data[:n], clean.index}
		s, _, err := f.open(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context()); err == nil {
			t.Errorf("%d of %d bytes are verified", n, len(clean.data))
		}
		found, err := s.Find(t.Context(), id, 100)
		if want := findNaively(all, id); err == nil && len(found) != len(want) {
			t.Errorf("%d of %d bytes: found %d of %d without an error", n, len(clean.data), len(found), len(want))
		}
		if _, err := Reindex(t.Context(), LocalRange{bytes.NewReader(f.data)}, int64(n), 1, Options{Decoder: d}); err == nil {
			t.Errorf("%d of %d bytes are indexed", n, len(clean.data))
		}
	}
}

// failingRange fails as a network does.
type failingRange struct{ err error }

func (f failingRange) ReadRange(context.Context, []byte, int64) error { return f.err }

func TestErrorsOfReadingAreTold(t *testing.T) {
	path, all := smallSegment(t)
	f := readFiles(t, path)
	broken := errors.New("connection reset")
	s, err := Open(failingRange{broken}, bytes.NewReader(f.index), int64(len(f.index)), Options{Decoder: newTestDecoder(t)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), ids.TraceID(all[0].Record.TraceID).String(), 10); !errors.Is(err, broken) {
		t.Error("find:", err)
	}
	if err := s.Scan(t.Context(), Query{Columns: []Column{Path}}, func(*Rows) bool { return true }); !errors.Is(err, broken) {
		t.Error("scan:", err)
	}
	if err := s.Verify(t.Context()); !errors.Is(err, broken) {
		t.Error("verify:", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Find(done, ids.TraceID(all[0].Record.TraceID).String(), 10); !errors.Is(err, context.Canceled) {
		t.Error("find:", err)
	}
	if err := s.Scan(done, Query{}, func(*Rows) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Error("scan:", err)
	}
}

var update = flag.Bool("update", false, "write the golden segment of today's schema version; never do that to an older one")

// goldenRecords are what the golden segments hold.
func goldenRecords() ([]record.Record, []*telemetryv1.Edge) {
	trace := [16]byte{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
	full := record.Record{
		Start: time.Unix(1_790_000_000, 123_456_789), Duration: 1500 * time.Microsecond, FirstByte: time.Millisecond,
		TraceID: trace, RequestID: "order-4711", SpanID: [8]byte{1}, ParentSpanID: [8]byte{2}, Protocol: "grpc", HTTPVersion: "HTTP/2",
		Method: "POST", Path: "/shop.Cart/Add", Host: "cart:9080", Route: "cart", Code: 200, GRPCStatus: 15, Flags: "UF", Detail: "via_upstream",
		BytesIn: 10, BytesOut: math.MaxInt64, Attempts: 2, Upstream: "10.0.0.1:9080", Verdict: "ok", Rule: "shop/limits/cart", UserAgent: "grpc-go",
		Sampled: true, Attributes: map[string]string{"tenant": "ä", "tier": ""},
	}
	plain := record.Record{Start: time.Unix(1_790_000_001, 0), TraceID: trace, SpanID: [8]byte{3}, Protocol: "tcp", Edge: 1}
	return []record.Record{full, plain}, []*telemetryv1.Edge{
		{
			Reporter:           telemetryv1.Reporter_REPORTER_SOURCE,
			Source:             &telemetryv1.Identity{Cluster: "c", Namespace: "n", Workload: "w", Service: "s", Version: "v", Principal: "p", Instance: "i"},
			Destination:        &telemetryv1.Identity{Cluster: "C", Namespace: "N", Workload: "W", Service: "S", Version: "V", Principal: "P", Instance: "I"},
			DestinationService: "S.N.svc", Security: "mutual_tls",
		},
		{Reporter: telemetryv1.Reporter_REPORTER_DESTINATION},
	}
}

// TestOlderVersionsStayReadable reads a segment of each schema version as it
// was written when the version was current.
func TestOlderVersionsStayReadable(t *testing.T) {
	rs, edges := goldenRecords()
	golden := newCodec(t).batch(t, rs, edges, "pod-1")
	if *update {
		buildAt(t, filepath.Join("testdata", fmt.Sprintf("v%d.parquet", schemaVersion)), BuilderOptions{Seed: 1, Writer: "telemesh golden"}, golden)
	}
	for version := uint64(1); version <= schemaVersion; version++ {
		path := filepath.Join("testdata", fmt.Sprintf("v%d.parquet", version))
		s, _ := mustOpen(t, path)
		if s.version != version {
			t.Errorf("version %d, want %d", s.version, version)
		}
		if err := s.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		want := expected(golden)
		for _, id := range []string{"order-4711", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"} {
			got, err := s.Find(t.Context(), id, 10)
			if err != nil {
				t.Error(err)
			}
			if diff := diffFound(slices.Clone(want), got); diff != "" {
				t.Errorf("version %d, %s (-want +got)\n%s", version, id, diff)
			}
		}
		if diff := diffFound(slices.Clone(want), readOpen(t, path)); diff != "" {
			t.Errorf("version %d as parquet-go reads it (-want +got)\n%s", version, diff)
		}
	}
	// The same records give the same bytes, so a change of the format shows.
	if again := readFiles(t, build(t, BuilderOptions{Seed: 1, Writer: "telemesh golden"}, golden)); true {
		committed := readFiles(t, filepath.Join("testdata", fmt.Sprintf("v%d.parquet", schemaVersion)))
		if !bytes.Equal(again.data, committed.data) || !bytes.Equal(again.index, committed.index) {
			t.Error("the golden records are written in other bytes: if the table has changed, raise schemaVersion and add a golden file with -update; if an encoder has, the old file must still be read as above")
		}
	}
}

// TestAFileWithoutAColumnReadsAsEmpty stands for a file of an older version, and
// one with a column that is not known for one of a newer.
func TestAFileWithoutAColumnReadsAsEmpty(t *testing.T) {
	path, all := smallSegment(t)
	s, _ := mustOpen(t, path)
	s.columns = slices.Clone(s.columns)
	for _, c := range []Column{Path, GRPCStatus, Verdict, SourceService, AttributeKeys, AttributeValues} {
		s.columns[c].name = "of_another_version_" + c.String()
	}
	s.resolve()
	id := ids.TraceID(all[3].Record.TraceID).String()
	found, err := s.Find(t.Context(), id, 100)
	if err != nil || len(found) != len(findNaively(all, id)) {
		t.Fatal(len(found), err)
	}
	for _, f := range found {
		if f.Record.Path != "" || f.Record.GRPCStatus != 0 || f.Record.Attributes != nil || f.Edge.GetSource().GetService() != "" || f.Record.Host == "" {
			t.Errorf("%+v", f)
		}
	}
	s.services = nil
	if got := scanAll(t, s, Query{PathPrefix: "/", Source: "productpage"}); len(got) != 0 {
		t.Errorf("%d records by a column that is not there", len(got))
	}
	if got := scanAll(t, s, Query{Failed: true}); len(got) != 0 {
		t.Errorf("%d failed records without their gRPC status", len(got))
	}
}
