package segment

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/duckdb"
	"github.com/telemesh/telemesh/internal/ids"
)

// variedBatches are those of Bookinfo with all columns in use.
func variedBatches(t *testing.T, rows int) (batches []batch) {
	c := newCodec(t)
	g := newBookinfo(t, c, 31, 100*time.Microsecond)
	for i := 0; i*1000 < rows; i++ {
		rs := g.next(1000)
		for j := range rs {
			if j%3 == 0 {
				rs[j].Protocol, rs[j].GRPCStatus = "grpc", uint32(1+j%17)
			}
			if j%5 == 0 {
				rs[j].RequestID = fmt.Sprintf("order-%d-%d", i, j)
				rs[j].Attributes = map[string]string{"tenant": fmt.Sprint("tenänt-", j%7), "tier": fmt.Sprint(j % 2)}
			}
		}
		batches = append(batches, c.batch(t, rs, g.edges, fmt.Sprint("pod-", i%3)))
	}
	return batches
}

// TestDuckDBSeesWhatTheHubSees opens a sealed segment, a merged one and the
// golden one in DuckDB, which shares no code with this package.
func TestDuckDBSeesWhatTheHubSees(t *testing.T) {
	d, dir := newTestDecoder(t), t.TempDir()
	batches := variedBatches(t, 24_000)
	sealed, merged := filepath.Join(dir, "sealed.parquet"), filepath.Join(dir, "merged.parquet")
	buildAt(t, sealed, BuilderOptions{}, batches[:12]...)
	mustMerge(t, merged, MergeOptions{Keep: Query{FailedOrSlow: 3 * time.Millisecond}, WholeTraces: true}, splitTraces(t, d, 2, BuilderOptions{}, batches[12:])...)
	golden, err := filepath.Abs("testdata/v1.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"sealed": sealed, "merged": merged, "golden": golden} {
		t.Run(name, func(t *testing.T) { compareWithDuckDB(t, path, openAt(t, path, d)) })
	}
}

func compareWithDuckDB(t *testing.T, path string, s *Segment) {
	var all []Found
	traces := make(map[[16]byte]bool)
	var sample []string
	for i, f := range scanAll(t, s, Query{}) {
		all = append(all, f)
		if id := f.Record.TraceID; i%1501 == 0 && !traces[id] {
			traces[id] = true
			sample = append(sample, "'"+ids.TraceID(id).UUID()+"'")
		}
	}
	from := fmt.Sprintf(" from read_parquet('%s') ", path)
	var got struct {
		Sums   []map[string]any
		Groups []map[string]any
		Errors []map[string]any
		Rows   []duckRow
	}
	duckdb.Ask(t, map[string]string{
		"sums": `select count(*)::text as rows, sum(duration)::text as duration, sum(first_byte)::text as first_byte, sum(code)::text as code,
			count(grpc_status)::text as grpc, sum(grpc_status)::text as statuses, sum(bytes_in)::text as bytes_in, sum(bytes_out)::text as bytes_out,
			sum(attempts)::text as attempts, count(*) filter (sampled)::text as sampled, count(distinct trace_id)::text as traces,
			count(distinct span_id)::text as spans, sum(cardinality(attributes))::text as attributes` + from,
		"groups": `select source_workload || '>' || destination_workload || '|' || reporter || '|' || coalesce(attributes['tenant'], '') as edge,
			count(*)::text as n, sum(duration)::text as duration` + from + `group by all`,
		"errors": `select destination_canonical_service as service, count(*)::text as n` + from + `where code = 0 or code >= 500 or grpc_status > 0 group by all`,
		"rows":   `select *, epoch_us(start)::text as us, hex(span_id) as span, hex(parent_span_id) as parent` + from + `where trace_id in (` + strings.Join(sample, ",") + `)`,
	}, &got)
	if want, have := sumsOf(all), flatten(got.Sums); !slices.Equal(want, have) {
		t.Errorf("sums:\nDuckDB %v\nhub    %v", have, want)
	}
	if want, have := groupsOf(all), flatten(got.Groups); !slices.Equal(want, have) {
		t.Errorf("groups:\nDuckDB %v\nhub    %v", have, want)
	}
	if want, have := errorsOf(t, s), flatten(got.Errors); !slices.Equal(want, have) {
		t.Errorf("errors:\nDuckDB %v\nhub    %v", have, want)
	}
	var rows []Found
	for i := range got.Rows {
		rows = append(rows, got.Rows[i].found(t))
	}
	var want []Found
	for _, f := range all {
		if traces[f.Record.TraceID] {
			f.Record.Start = f.Record.Start.Truncate(time.Microsecond) // as DuckDB reads nanoseconds
			want = append(want, f)
		}
	}
	if diff := diffFound(want, rows); diff != "" || len(want) < 2 {
		t.Errorf("%d rows (-hub +DuckDB)\n%s", len(want), diff)
	}
}

// flatten makes a line of each row, with the columns in the order of their
// names, and sorts the lines.
func flatten(rows []map[string]any) (lines []string) {
	for _, row := range rows {
		var parts []string
		for name, v := range row {
			parts = append(parts, fmt.Sprint(name, "=", v))
		}
		slices.Sort(parts)
		lines = append(lines, strings.Join(parts, " "))
	}
	slices.Sort(lines)
	return lines
}

func sumsOf(all []Found) []string {
	var duration, first, code, grpc, statuses, in, out, attempts, sampled, attributes uint64
	traces, spans := make(map[[16]byte]bool), make(map[[8]byte]bool)
	for i := range all {
		r := &all[i].Record
		duration, first, code = duration+uint64(r.Duration), first+uint64(r.FirstByte), code+uint64(r.Code)
		in, out, attempts, attributes = in+r.BytesIn, out+r.BytesOut, attempts+uint64(r.Attempts), attributes+uint64(len(r.Attributes))
		if r.GRPCStatus > 0 {
			grpc, statuses = grpc+1, statuses+uint64(r.GRPCStatus-1)
		}
		if r.Sampled {
			sampled++
		}
		traces[r.TraceID], spans[r.SpanID] = true, true
	}
	return flatten([]map[string]any{{
		"rows": len(all), "duration": duration, "first_byte": first, "code": code, "grpc": grpc, "statuses": statuses, "bytes_in": in,
		"bytes_out": out, "attempts": attempts, "sampled": sampled, "traces": len(traces), "spans": len(spans), "attributes": attributes,
	}})
}

func groupsOf(all []Found) []string {
	type sums struct{ n, duration uint64 }
	groups := make(map[string]sums)
	for i := range all {
		f := &all[i]
		edge := f.Edge.GetSource().GetWorkload() + ">" + f.Edge.GetDestination().GetWorkload() + "|" + reporterText(f.Edge.GetReporter()) + "|" + f.Record.Attributes["tenant"]
		g := groups[edge]
		groups[edge] = sums{g.n + 1, g.duration + uint64(f.Record.Duration)}
	}
	var rows []map[string]any
	for edge, g := range groups {
		rows = append(rows, map[string]any{"edge": edge, "n": g.n, "duration": g.duration})
	}
	return flatten(rows)
}

// errorsOf asks for what failed as the hub does, with its conditions.
func errorsOf(t *testing.T, s *Segment) []string {
	t.Helper()
	counts := make(map[string]int)
	err := s.Scan(t.Context(), Query{Failed: true, Columns: []Column{DestinationService}}, func(r *Rows) bool {
		dict, codes := r.Texts(DestinationService)
		for _, row := range r.Selected() {
			counts[dict[codes[row]]]++
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	var rows []map[string]any
	for service, n := range counts {
		rows = append(rows, map[string]any{"service": service, "n": n})
	}
	return flatten(rows)
}

// duckRow is a row as query.mjs writes it.
type duckRow struct {
	duckEdge
	US           int64 `json:"us,string"`
	Duration     int64 `json:"duration,string"`
	FirstByte    int64 `json:"first_byte,string"`
	Code         uint32
	GRPCStatus   *uint32 `json:"grpc_status"`
	BytesIn      uint64  `json:"bytes_in,string"`
	BytesOut     uint64  `json:"bytes_out,string"`
	Attempts     uint32
	Sampled      bool
	TraceID      string `json:"trace_id"`
	Span, Parent string
	RequestID    string `json:"request_id"`
	Protocol     string
	HTTPVersion  string `json:"http_version"`
	Method       string
	Path         string
	Host         string
	Route        string
	Flags        string
	Detail       string
	Upstream     string
	Verdict      string
	Rule         string
	UserAgent    string `json:"user_agent"`
	Attributes   []struct{ Key, Value string }
}

// duckEdge are the columns of an edge, in the order of the schema.
type duckEdge struct {
	Sender               string
	Reporter             string
	SourceCluster        string `json:"source_cluster"`
	SourceNamespace      string `json:"source_workload_namespace"`
	SourceWorkload       string `json:"source_workload"`
	SourceService        string `json:"source_canonical_service"`
	SourceVersion        string `json:"source_version"`
	SourcePrincipal      string `json:"source_principal"`
	SourceInstance       string `json:"source_instance"`
	DestinationCluster   string `json:"destination_cluster"`
	DestinationNamespace string `json:"destination_workload_namespace"`
	DestinationWorkload  string `json:"destination_workload"`
	DestinationService   string `json:"destination_canonical_service"`
	DestinationVersion   string `json:"destination_version"`
	DestinationPrincipal string `json:"destination_principal"`
	DestinationInstance  string `json:"destination_instance"`
	DestinationHost      string `json:"destination_service"`
	Security             string `json:"connection_security_policy"`
}

func (e *duckEdge) origin() *origin {
	return &origin{
		e.Sender, e.Reporter, e.SourceCluster, e.SourceNamespace, e.SourceWorkload, e.SourceService, e.SourceVersion, e.SourcePrincipal, e.SourceInstance,
		e.DestinationCluster, e.DestinationNamespace, e.DestinationWorkload, e.DestinationService, e.DestinationVersion, e.DestinationPrincipal,
		e.DestinationInstance, e.DestinationHost, e.Security,
	}
}

func (r *duckRow) found(t *testing.T) Found {
	t.Helper()
	trace, ok := ids.ParseTraceID(r.TraceID)
	if !ok {
		t.Fatalf("trace ID %q", r.TraceID)
	}
	f := Found{Sender: r.Sender, Edge: r.origin().edge(), Record: record.Record{
		Start: time.UnixMicro(r.US), Duration: time.Duration(r.Duration), FirstByte: time.Duration(r.FirstByte), TraceID: trace,
		RequestID: r.RequestID, SpanID: spanOf(t, r.Span), ParentSpanID: spanOf(t, r.Parent), Protocol: r.Protocol, HTTPVersion: r.HTTPVersion,
		Method: r.Method, Path: r.Path, Host: r.Host, Route: r.Route, Code: r.Code, Flags: r.Flags, Detail: r.Detail, BytesIn: r.BytesIn,
		BytesOut: r.BytesOut, Attempts: r.Attempts, Upstream: r.Upstream, Verdict: r.Verdict, Rule: r.Rule, UserAgent: r.UserAgent, Sampled: r.Sampled,
	}}
	if r.GRPCStatus != nil {
		f.Record.GRPCStatus = *r.GRPCStatus + 1
	}
	for _, a := range r.Attributes {
		if f.Record.Attributes == nil {
			f.Record.Attributes = make(map[string]string)
		}
		f.Record.Attributes[a.Key] = a.Value
	}
	return f
}

func spanOf(t *testing.T, text string) (id [8]byte) {
	t.Helper()
	if _, err := hex.Decode(id[:], []byte(text)); err != nil || len(text) != 16 {
		t.Fatalf("span ID %q: %v", text, err)
	}
	return id
}
