package trace

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	source      = telemetryv1.Reporter_REPORTER_SOURCE
	destination = telemetryv1.Reporter_REPORTER_DESTINATION
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)

func workload(name string) *telemetryv1.Identity {
	return &telemetryv1.Identity{Namespace: "default", Workload: name + "-v1", Service: name, Version: "v1"}
}

// row is a record of a call that starts at an offset of so many milliseconds.
func row(reporter telemetryv1.Reporter, from, to string, span, parent byte, offset, duration int) Row {
	r := record.Record{
		Start: begin.Add(time.Duration(offset) * time.Millisecond), Duration: time.Duration(duration) * time.Millisecond,
		Protocol: "http", Method: "GET", Path: "/", Code: 200, Verdict: vocab.VerdictOK,
	}
	r.TraceID[0] = 1
	r.SpanID[7], r.ParentSpanID[7] = span, parent
	return Row{Record: r, Edge: &telemetryv1.Edge{Reporter: reporter, Source: workload(from), Destination: workload(to), DestinationService: to}}
}

// bookinfo is one page view: every call seen from both ends.
func bookinfo() []Row {
	return []Row{
		row(source, "loadgen", "productpage", 1, 0, 0, 40), row(destination, "loadgen", "productpage", 2, 1, 1, 38),
		row(source, "productpage", "details", 3, 2, 2, 8), row(destination, "productpage", "details", 4, 3, 3, 6),
		row(source, "productpage", "reviews", 5, 2, 12, 24), row(destination, "productpage", "reviews", 6, 5, 13, 22),
		row(source, "reviews", "ratings", 7, 6, 15, 10), row(destination, "reviews", "ratings", 8, 7, 16, 8),
	}
}

// outline is a trace as one line per hop.
func outline(t topologyv1.Trace) string {
	var b strings.Builder
	for _, h := range t.Hops {
		o := h.Client
		if o == nil {
			o = h.Server
		}
		b.WriteString(strings.Repeat("  ", h.Depth) + o.Source.Service + ">" + o.Destination.Service)
		if h.Client == nil {
			b.WriteString(" no client")
		}
		if h.Server == nil {
			b.WriteString(" no server")
		}
		if h.Failed {
			b.WriteString(" failed")
		}
		if h.Gap != "" {
			b.WriteString(": " + h.Gap)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func wantOutline(t *testing.T, got topologyv1.Trace, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), outline(got)); diff != "" {
		t.Errorf("hops (-want +got):\n%s", diff)
	}
}

func TestAssembleOrdersShuffledRecordsByCall(t *testing.T) {
	for seed := range uint64(50) {
		rows := append(bookinfo(), bookinfo()[2:5]...) // some come twice
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		got := Assemble(rows)
		wantOutline(t, got, `
loadgen>productpage
  productpage>details
  productpage>reviews
    reviews>ratings
`)
		if len(got.Gaps) > 0 {
			t.Errorf("gaps = %q, want none", got.Gaps)
		}
		if got.StartUnixNano != begin.UnixNano() || got.DurationMs != 40 {
			t.Errorf("start %d, %g ms; want %d, 40 ms", got.StartUnixNano, got.DurationMs, begin.UnixNano())
		}
		if h := got.Hops[3]; h.OffsetMs != 15 || h.DurationMs != 10 {
			t.Errorf("ratings begins at %g ms for %g ms, want 15 for 10", h.OffsetMs, h.DurationMs)
		}
		if got.RequestID != "01000000-0000-0000-0000-000000000000" {
			t.Errorf("request ID %q is not the UUID of the trace", got.RequestID)
		}
	}
}

func TestAssembleOfNothingIsAnEmptyTrace(t *testing.T) {
	got := Assemble(nil)
	if got.Hops == nil || got.Gaps == nil || len(got.Hops) != 0 || got.SchemaVersion != topologyv1.SchemaVersion {
		t.Errorf("got %+v, want empty lists and a schema version", got)
	}
}

func TestAssembleNamesTheMissingSide(t *testing.T) {
	set := func(r Row, change func(*record.Record)) Row { change(&r.Record); return r }
	call := row(source, "reviews", "ratings", 1, 0, 0, 10)
	external := row(source, "reviews", "internet", 1, 0, 0, 10)
	external.Edge.Destination = &telemetryv1.Identity{Namespace: vocab.Unknown, Workload: vocab.Unknown, Service: "PassthroughCluster"}
	outside := row(destination, "reviews", "ratings", 2, 0, 0, 10)
	outside.Edge.Source = &telemetryv1.Identity{Namespace: vocab.Unknown, Workload: vocab.Unknown}
	for name, c := range map[string]struct {
		row  Row
		want string
	}{
		"callee is silent":       {call, "the callee's sidecar has not reported this call"},
		"caller is silent":       {row(destination, "reviews", "ratings", 2, 1, 0, 10), "the caller's sidecar has not reported this call"},
		"callee never reached":   {set(call, func(r *record.Record) { r.Code, r.Flags = 503, vocab.FlagUpstreamConnect }), "the request did not reach the callee's sidecar (UF)"},
		"no answer":              {set(call, func(r *record.Record) { r.Code = 0 }), "the request did not reach the callee's sidecar (no response)"},
		"denied by the caller":   {set(call, func(r *record.Record) { r.Code, r.Verdict = 403, vocab.VerdictDenied }), ""},
		"throttled":              {set(call, func(r *record.Record) { r.Code, r.Flags, r.Verdict = 429, "RL", vocab.VerdictThrottled }), ""},
		"callee outside of mesh": {external, ""},
		"caller outside of mesh": {outside, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Assemble([]Row{c.row})
			if len(got.Hops) != 1 || got.Hops[0].Gap != c.want {
				t.Fatalf("hops %+v, want one with gap %q", got.Hops, c.want)
			}
			if (len(got.Gaps) > 0) != (c.want != "") {
				t.Errorf("gaps of the trace = %q", got.Gaps)
			}
		})
	}
}

func TestAssembleMarksFailures(t *testing.T) {
	for name, c := range map[string]struct {
		code, grpc uint32
		want       bool
	}{
		"ok": {200, 0, false}, "client's fault": {404, 0, false}, "server's fault": {503, 0, true}, "no response": {0, 0, true},
		"grpc ok": {200, 1, false}, "grpc unavailable": {200, 15, true},
	} {
		r := row(source, "a", "b", 1, 0, 0, 1)
		r.Record.Code, r.Record.GRPCStatus = c.code, c.grpc
		if got := Assemble([]Row{r}).Hops[0].Failed; got != c.want {
			t.Errorf("%s: failed = %t, want %t", name, got, c.want)
		}
	}
}

func TestAssembleKeepsOrphansAsRoots(t *testing.T) {
	rows := slices.Delete(bookinfo(), 4, 6) // reviews' own sidecar and the call to it are lost
	got := Assemble(rows)
	wantOutline(t, got, `
loadgen>productpage
  productpage>details
reviews>ratings
`)
	if len(got.Gaps) != 1 || !strings.Contains(got.Gaps[0], "0000000000000006") {
		t.Errorf("gaps = %q, want one that names the parent span", got.Gaps)
	}
}

func TestAssembleShowsSpansThatAreTheirOwnAncestors(t *testing.T) {
	self := row(source, "a", "b", 1, 1, 0, 10)
	wantOutline(t, Assemble([]Row{self}), `
a>b no server: the callee's sidecar has not reported this call
`)
	circle := []Row{row(source, "a", "b", 1, 2, 0, 10), row(destination, "a", "b", 2, 1, 1, 8), row(source, "b", "a", 3, 2, 2, 4), row(destination, "b", "a", 4, 3, 3, 2)}
	wantOutline(t, Assemble(circle), `
a>b
  b>a
`)
}

func TestAssembleShowsFurtherAttempts(t *testing.T) {
	got := Assemble([]Row{
		row(source, "a", "b", 1, 0, 0, 20), row(destination, "a", "b", 2, 1, 1, 5), row(destination, "a", "b", 3, 1, 10, 9),
		row(source, "b", "c", 4, 3, 12, 3), row(destination, "b", "c", 5, 4, 13, 1),
	})
	wantOutline(t, got, `
a>b
  a>b no client
    b>c
`)
	if len(got.Gaps) > 0 {
		t.Errorf("gaps = %q: the caller did report the call", got.Gaps)
	}
}

func TestViewWritesIstiosAccessLog(t *testing.T) {
	r := row(source, "productpage", "reviews", 1, 0, 0, 24)
	r.Record.Path, r.Record.HTTPVersion, r.Record.Host, r.Record.Route = "/reviews/0", "HTTP/1.1", "reviews:9080", "outbound|reviews.default.svc.cluster.local"
	r.Record.FirstByte, r.Record.BytesIn, r.Record.BytesOut = 22*time.Millisecond, 7, 375
	r.Record.Detail, r.Record.Upstream, r.Record.UserAgent = "via_upstream", "127.0.0.1:15006", "curl/8.5.0"
	got := View(&r.Record, r.Edge).AccessLog
	want := `[2026-01-02T03:04:05.678Z] "GET /reviews/0 HTTP/1.1" 200 - via_upstream - "-" 7 375 24 22 "-" "curl/8.5.0" ` +
		`"01000000-0000-0000-0000-000000000000" "reviews:9080" "127.0.0.1:15006" outbound|reviews.default.svc.cluster.local - - - - outbound|reviews.default.svc.cluster.local`
	if got != want {
		t.Errorf("line =\n%s\nwant\n%s", got, want)
	}
	// Method, path and protocol are three fields between one pair of quotes.
	if n := len(strings.Fields(got)); n != 24 {
		t.Errorf("%d fields, want 24", n)
	}
}

func TestViewOfAGRPCCall(t *testing.T) {
	r := row(destination, "a", "b", 1, 0, 0, 1)
	r.Record.GRPCStatus, r.Record.RequestID = 1, "abc"
	v := View(&r.Record, r.Edge)
	if v.GRPCStatus != "0" || v.Reporter != "destination" || v.RequestID != "abc" {
		t.Errorf("status %q, reporter %q, request ID %q", v.GRPCStatus, v.Reporter, v.RequestID)
	}
}
