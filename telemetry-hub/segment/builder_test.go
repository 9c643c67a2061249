package segment

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// openRow is a row of the table as parquet-go reads it: an independent reader of
// what we write.
type openRow struct {
	Start                int64             `parquet:"start,timestamp(nanosecond)"`
	Duration             int64             `parquet:"duration"`
	FirstByte            int64             `parquet:"first_byte"`
	Code                 int32             `parquet:"code"`
	GRPCStatus           *int32            `parquet:"grpc_status,optional"`
	BytesIn              int64             `parquet:"bytes_in"`
	BytesOut             int64             `parquet:"bytes_out"`
	Attempts             int32             `parquet:"attempts"`
	Sampled              bool              `parquet:"sampled"`
	TraceID              [16]byte          `parquet:"trace_id,uuid"`
	SpanID               [8]byte           `parquet:"span_id"`
	ParentSpanID         [8]byte           `parquet:"parent_span_id"`
	Sender               string            `parquet:"sender"`
	Reporter             string            `parquet:"reporter"`
	SourceCluster        string            `parquet:"source_cluster"`
	SourceNamespace      string            `parquet:"source_workload_namespace"`
	SourceWorkload       string            `parquet:"source_workload"`
	SourceService        string            `parquet:"source_canonical_service"`
	SourceVersion        string            `parquet:"source_version"`
	SourcePrincipal      string            `parquet:"source_principal"`
	SourceInstance       string            `parquet:"source_instance"`
	DestinationCluster   string            `parquet:"destination_cluster"`
	DestinationNamespace string            `parquet:"destination_workload_namespace"`
	DestinationWorkload  string            `parquet:"destination_workload"`
	DestinationService   string            `parquet:"destination_canonical_service"`
	DestinationVersion   string            `parquet:"destination_version"`
	DestinationPrincipal string            `parquet:"destination_principal"`
	DestinationInstance  string            `parquet:"destination_instance"`
	DestinationHost      string            `parquet:"destination_service"`
	Security             string            `parquet:"connection_security_policy"`
	RequestID            string            `parquet:"request_id"`
	Protocol             string            `parquet:"protocol"`
	HTTPVersion          string            `parquet:"http_version"`
	Method               string            `parquet:"method"`
	Path                 string            `parquet:"path"`
	Host                 string            `parquet:"host"`
	Route                string            `parquet:"route"`
	Flags                string            `parquet:"flags"`
	Detail               string            `parquet:"detail"`
	Upstream             string            `parquet:"upstream"`
	Verdict              string            `parquet:"verdict"`
	Rule                 string            `parquet:"rule"`
	UserAgent            string            `parquet:"user_agent"`
	Attributes           map[string]string `parquet:"attributes"`
}

// found is the row as this package hands it out.
func (r *openRow) found() Found {
	f := Found{Sender: r.Sender, Edge: &telemetryv1.Edge{
		Reporter: reporterOf(r.Reporter),
		Source: identity([]string{
			r.SourceCluster, r.SourceNamespace, r.SourceWorkload, r.SourceService, r.SourceVersion, r.SourcePrincipal, r.SourceInstance,
		}),
		Destination: identity([]string{
			r.DestinationCluster, r.DestinationNamespace, r.DestinationWorkload, r.DestinationService, r.DestinationVersion,
			r.DestinationPrincipal, r.DestinationInstance,
		}),
		DestinationService: r.DestinationHost, Security: r.Security,
	}}
	f.Record = record.Record{
		Start: time.Unix(0, r.Start), Duration: time.Duration(r.Duration), FirstByte: time.Duration(r.FirstByte),
		TraceID: r.TraceID, RequestID: r.RequestID, SpanID: r.SpanID, ParentSpanID: r.ParentSpanID,
		Protocol: r.Protocol, HTTPVersion: r.HTTPVersion, Method: r.Method, Path: r.Path, Host: r.Host, Route: r.Route,
		Code: uint32(r.Code), Flags: r.Flags, Detail: r.Detail, BytesIn: uint64(r.BytesIn), BytesOut: uint64(r.BytesOut),
		Attempts: uint32(r.Attempts), Upstream: r.Upstream, Verdict: r.Verdict, Rule: r.Rule, UserAgent: r.UserAgent, Sampled: r.Sampled,
	}
	if r.GRPCStatus != nil {
		f.Record.GRPCStatus = uint32(*r.GRPCStatus) + 1
	}
	if len(r.Attributes) > 0 {
		f.Record.Attributes = r.Attributes
	}
	return f
}

// readOpen reads a whole file with parquet-go.
func readOpen(t testing.TB, path string) []Found {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[openRow](bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal("parquet-go:", err)
	}
	var out []Found
	for i := range rows {
		out = append(out, rows[i].found())
	}
	return out
}

// build seals the batches in a fresh folder.
func build(t testing.TB, o BuilderOptions, batches ...batch) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "1.parquet")
	buildAt(t, path, o, batches...)
	return path
}

func buildAt(t testing.TB, path string, o BuilderOptions, batches ...batch) Summary {
	t.Helper()
	b, err := NewBuilder(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range batches {
		if err := b.Add(batch.columns, batch.edges, batch.sender); err != nil {
			t.Fatal(err)
		}
	}
	summary, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// expected is what a segment of the batches holds.
func expected(batches ...batch) []Found {
	var out []Found
	for _, b := range batches {
		for row := range b.columns.Rows() {
			r := b.columns.Record(row)
			f := Found{Record: r, Sender: b.sender, Edge: &telemetryv1.Edge{}}
			if int(r.Edge) < len(b.edges) {
				f.Edge = b.edges[r.Edge]
			}
			f.Record.Edge = 0
			f.Record.BytesIn, f.Record.BytesOut = min(r.BytesIn, math.MaxInt64), min(r.BytesOut, math.MaxInt64)
			f.Record.Attempts = min(r.Attempts, math.MaxInt32)
			out = append(out, f)
		}
	}
	return out
}

// sortFound orders records so that two readings can be compared.
func sortFound(fs []Found) []Found {
	type keyed struct {
		key string
		f   Found
	}
	ks := make([]keyed, len(fs))
	for i, f := range fs {
		ks[i] = keyed{sortKey(f), f}
	}
	slices.SortStableFunc(ks, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	for i := range ks {
		fs[i] = ks[i].f
	}
	return fs
}

func sortKey(f Found) string {
	r := &f.Record
	return fmt.Sprintf("%x %x %d %d %q %q %v", r.TraceID, r.SpanID, r.Start.UnixNano(), r.Duration, r.Path, r.RequestID, r)
}

func diffFound(want, got []Found) string {
	return cmp.Diff(sortFound(want), sortFound(got), protocmp.Transform(), cmpopts.EquateEmpty(),
		protocmp.IgnoreEmptyMessages(), cmpopts.EquateApproxTime(0))
}

func genText(t *rapid.T, name string) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "reviews", "/päth/日本", "spiffe://x/ns/y/sa/z"}),
		rapid.StringN(0, 12, 40),
	).Draw(t, name)
}

func genRecord(t *rapid.T) record.Record {
	r := record.Record{
		Start:       time.Unix(0, rapid.Int64Range(-1<<61, 1<<61).Draw(t, "start")),
		Duration:    time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "duration")),
		FirstByte:   time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "first")),
		RequestID:   genText(t, "request id"),
		Edge:        rapid.Uint32Range(0, 4).Draw(t, "edge"),
		Protocol:    rapid.SampledFrom([]string{"http", "grpc", "tcp", ""}).Draw(t, "protocol"),
		HTTPVersion: "HTTP/1.1", Method: genText(t, "method"), Path: genText(t, "path"), Host: genText(t, "host"),
		Route: genText(t, "route"), Code: rapid.SampledFrom([]uint32{0, 200, 404, 503, math.MaxInt32}).Draw(t, "code"),
		GRPCStatus: rapid.Uint32Range(0, 17).Draw(t, "grpc"), Flags: genText(t, "flags"), Detail: genText(t, "detail"),
		BytesIn: rapid.Uint64().Draw(t, "in"), BytesOut: rapid.Uint64().Draw(t, "out"), Attempts: rapid.Uint32().Draw(t, "attempts"),
		Upstream: genText(t, "upstream"), Verdict: genText(t, "verdict"), Rule: genText(t, "rule"), UserAgent: genText(t, "agent"),
		Sampled: rapid.Bool().Draw(t, "sampled"),
	}
	for _, id := range [][]byte{r.TraceID[:], r.SpanID[:], r.ParentSpanID[:]} {
		// Often alike, so that ties are met, and of 64 bits only.
		copy(id[len(id)-4:], rapid.SliceOfN(rapid.ByteRange(0, 2), 4, 4).Draw(t, "id"))
	}
	if rapid.Bool().Draw(t, "wide") {
		r.TraceID[0] = 0xab
	}
	if m := rapid.MapOfN(rapid.StringN(0, 5, 20), rapid.StringN(0, 5, 20), 0, 3).Draw(t, "attributes"); len(m) > 0 {
		r.Attributes = m
	}
	return r
}

func genEdge(t *rapid.T) *telemetryv1.Edge {
	identity := func(name string) *telemetryv1.Identity {
		return &telemetryv1.Identity{
			Cluster: genText(t, name), Namespace: genText(t, name), Workload: genText(t, name), Service: genText(t, name),
			Version: genText(t, name), Principal: genText(t, name), Instance: genText(t, name),
		}
	}
	return &telemetryv1.Edge{
		Reporter: telemetryv1.Reporter(rapid.IntRange(0, 2).Draw(t, "reporter")), Source: identity("source"), Destination: identity("destination"),
		DestinationService: genText(t, "service"), Security: genText(t, "security"),
	}
}

func genBatches(t *rapid.T, tb testing.TB, c codec) []batch {
	var batches []batch
	for range rapid.IntRange(0, 4).Draw(t, "batches") {
		edges := rapid.SliceOfN(rapid.Custom(genEdge), 0, 4).Draw(t, "edges")
		rs := rapid.SliceOfN(rapid.Custom(genRecord), 0, 12).Draw(t, "records")
		batches = append(batches, c.batch(tb, rs, edges, genText(t, "sender")))
	}
	return batches
}

// TestParquetGoReadsWhatWasWritten is the property that makes the table open.
func TestParquetGoReadsWhatWasWritten(t *testing.T) {
	c, dir := newCodec(t), t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		batches := genBatches(rt, t, c)
		path := filepath.Join(dir, "1.parquet")
		summary := buildAt(t, path, BuilderOptions{Window: rapid.IntRange(1, 20).Draw(rt, "window")}, batches...)
		want := expected(batches...)
		if summary.Rows != len(want) {
			rt.Fatalf("sealed %d rows of %d", summary.Rows, len(want))
		}
		if diff := diffFound(want, readOpen(t, path)); diff != "" {
			rt.Fatal("(-want +got)\n", diff)
		}
	})
}

func TestParquetGoReadsManyRowGroups(t *testing.T) {
	batches := bookinfoBatches(t, 1, 20_000)
	path := build(t, BuilderOptions{Window: 12_000}, batches...)
	want, got := sortFound(expected(batches...)), sortFound(readOpen(t, path))
	if len(want) != len(got) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if i%97 == 0 { // a comparison of all costs seconds
			if diff := diffFound(want[i:i+1], got[i:i+1]); diff != "" {
				t.Fatalf("row %d (-want +got)\n%s", i, diff)
			}
		}
	}
}
