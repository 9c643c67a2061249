// Package trace joins the thin records of one request into its hops: for each
// call the caller's and the callee's side, in call order, with what is missing
// named.
package trace

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
)

// Row is one record with its edge.
type Row struct {
	Record record.Record
	Edge   *telemetryv1.Edge
}

// View is a record in the API's form.
func View(r *record.Record, e *telemetryv1.Edge) topologyv1.Record {
	source, destination := party(e.GetSource()), party(e.GetDestination())
	reporter := "source"
	if e.GetReporter() == telemetryv1.Reporter_REPORTER_DESTINATION {
		reporter = "destination"
	}
	v := topologyv1.Record{
		Reporter: reporter, Source: source, Destination: destination,
		Edge: graph.EdgeID(source.Node, destination.Node, e.GetDestinationService(), r.Protocol), DestinationService: e.GetDestinationService(),
		StartUnixNano: r.Start.UnixNano(), DurationMs: ms(r.Duration), FirstByteMs: ms(r.FirstByte),
		RequestID: RequestID(r), TraceID: ids.TraceID(r.TraceID).String(),
		SpanID: ids.SpanID(r.SpanID).String(), ParentSpanID: ids.SpanID(r.ParentSpanID).String(), Sampled: r.Sampled,
		Protocol: r.Protocol, HTTPVersion: r.HTTPVersion, Method: r.Method, Path: r.Path, Host: r.Host, Route: r.Route,
		Code: r.Code, Flags: r.Flags, Detail: r.Detail, BytesIn: r.BytesIn, BytesOut: r.BytesOut, Attempts: r.Attempts, Upstream: r.Upstream,
		Verdict: r.Verdict, Rule: r.Rule, UserAgent: r.UserAgent, Attributes: r.Attributes,
	}
	if r.GRPCStatus > 0 {
		v.GRPCStatus = fmt.Sprint(r.GRPCStatus - 1)
	}
	v.AccessLog = accessLog(&v)
	return v
}

// RequestID of a record: the one that came, else the UUID form of the trace ID.
func RequestID(r *record.Record) string {
	if r.RequestID != "" {
		return r.RequestID
	}
	return ids.TraceID(r.TraceID).UUID()
}

func party(i *telemetryv1.Identity) topologyv1.Party {
	return topologyv1.Party{
		Node: graph.RefOf(i).ID, Cluster: i.GetCluster(), Namespace: i.GetNamespace(), Workload: i.GetWorkload(),
		Service: i.GetService(), Version: i.GetVersion(), Instance: i.GetInstance(),
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// hop is a call under construction.
type hop struct {
	client, server *topologyv1.Record
	// again: the caller's record is with an earlier attempt of the same call.
	again bool
}

// outer is the side that spans the other.
func (h *hop) outer() *topologyv1.Record {
	if h.client != nil {
		return h.client
	}
	return h.server
}

// parent is the span from which the call was made.
func (h *hop) parent() string {
	if h.client != nil {
		return h.client.ParentSpanID
	}
	return h.server.ParentSpanID
}

// Assemble joins rows of one trace. Rows of other traces (a request ID used
// twice) become further roots.
func Assemble(rows []Row) topologyv1.Trace {
	views := make([]topologyv1.Record, 0, len(rows))
	seen := make(map[string]bool)
	for i := range rows {
		v := View(&rows[i].Record, rows[i].Edge)
		if k := v.TraceID + v.SpanID + v.Reporter; !seen[k] {
			seen[k] = true
			views = append(views, v)
		}
	}
	slices.SortFunc(views, func(a, b topologyv1.Record) int {
		return cmp.Or(cmp.Compare(a.StartUnixNano, b.StartUnixNano), cmp.Compare(b.DurationMs, a.DurationMs), cmp.Compare(a.SpanID, b.SpanID))
	})
	hops := pair(views)
	t := topologyv1.Trace{SchemaVersion: topologyv1.SchemaVersion, Hops: []topologyv1.Hop{}, Gaps: []string{}}
	if len(views) == 0 {
		return t
	}
	first := views[0]
	t.TraceID, t.RequestID, t.StartUnixNano = first.TraceID, first.RequestID, first.StartUnixNano
	for _, v := range views {
		t.DurationMs = max(t.DurationMs, float64(v.StartUnixNano-first.StartUnixNano)/1e6+v.DurationMs)
	}
	w := walk{trace: &t, children: make(map[string][]*hop), visited: make(map[*hop]bool)}
	w.arrange(hops)
	return t
}

// pair joins a caller's record with the callee's: the callee's parent is the
// caller's span.
func pair(views []topologyv1.Record) []*hop {
	var hops []*hop
	bySpan := make(map[string]*hop)
	for i := range views {
		if v := &views[i]; v.Reporter == "source" {
			h := &hop{client: v}
			hops = append(hops, h)
			bySpan[v.SpanID] = h
		}
	}
	for i := range views {
		v := &views[i]
		if v.Reporter == "source" {
			continue
		}
		h := bySpan[v.ParentSpanID]
		if h != nil && h.server == nil {
			h.server = v
			continue
		}
		hops = append(hops, &hop{server: v, again: h != nil})
	}
	slices.SortStableFunc(hops, func(a, b *hop) int { return cmp.Compare(a.outer().StartUnixNano, b.outer().StartUnixNano) })
	return hops
}

// walk orders hops depth first.
type walk struct {
	trace    *topologyv1.Trace
	children map[string][]*hop // by the span that made the call
	visited  map[*hop]bool
}

func (w *walk) arrange(hops []*hop) {
	known := make(map[string]bool)
	for _, h := range hops {
		for _, r := range []*topologyv1.Record{h.client, h.server} {
			if r != nil {
				known[r.SpanID] = true
			}
		}
	}
	var roots []*hop
	for _, h := range hops {
		if p := h.parent(); p != "" && known[p] {
			w.children[p] = append(w.children[p], h)
		} else {
			roots = append(roots, h)
		}
	}
	for _, h := range roots {
		if p := h.parent(); p != "" && h != roots[0] {
			w.gap("the call to " + name(h) + " has a parent span (" + p + ") that no sidecar reported")
		}
		w.visit(h, 0)
	}
	for _, h := range hops { // spans that are their own ancestors hang on no root
		w.visit(h, 0)
	}
}

func (w *walk) visit(h *hop, depth int) {
	if w.visited[h] {
		return
	}
	w.visited[h] = true
	outer := h.outer()
	out := topologyv1.Hop{
		Depth: depth, OffsetMs: float64(outer.StartUnixNano-w.trace.StartUnixNano) / 1e6, DurationMs: outer.DurationMs,
		Client: h.client, Server: h.server, Edge: outer.Edge, Source: outer.Source.Node, Destination: outer.Destination.Node,
		Failed: failed(outer), Gap: missingSide(h),
	}
	if out.Gap != "" {
		w.gap(name(h) + ": " + out.Gap)
	}
	w.trace.Hops = append(w.trace.Hops, out)
	for _, r := range []*topologyv1.Record{h.client, h.server} {
		if r == nil {
			continue
		}
		for _, c := range w.children[r.SpanID] {
			w.visit(c, depth+1)
		}
	}
}

func (w *walk) gap(s string) { w.trace.Gaps = append(w.trace.Gaps, s) }

func name(h *hop) string {
	o := h.outer()
	return o.Source.Node + " → " + o.Destination.Node
}

// missingSide says why a side is absent, as far as the other one knows. A
// request that came from outside the mesh misses nothing.
func missingSide(h *hop) string {
	switch {
	case h.client != nil && h.server != nil:
		return ""
	case h.client == nil && (h.again || h.server.Source.Node == "unknown"):
		return ""
	case h.client == nil:
		return "the caller's sidecar has not reported this call"
	case h.client.Verdict == "denied" || h.client.Verdict == "throttled":
		return "" // the caller's own policy ended it
	case h.client.Code == 0 || h.client.Flags != "":
		return "the request did not reach the callee's sidecar (" + cmp.Or(h.client.Flags, "no response") + ")"
	case h.client.Destination.Node == "external":
		return ""
	}
	return "the callee's sidecar has not reported this call"
}

func failed(r *topologyv1.Record) bool {
	return r.Code == 0 || r.Code >= 500 || r.GRPCStatus != "" && r.GRPCStatus != "0"
}
