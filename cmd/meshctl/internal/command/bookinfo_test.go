package command

import (
	"strings"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// The clock of the fixed mesh.
var fixedNow = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

const (
	fixedRequest = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"
	fixedTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
)

type call struct {
	from, to         string
	requests, errors uint64
	throttled        uint64
	p50, p95, p99    float64
	health           topologyv1.Health
	reason           string
}

func bookinfoCalls() []call {
	return []call{
		{from: "loadgen-v1", to: "productpage-v1", requests: 1200, errors: 4, p50: 12.4, p95: 31, p99: 120, health: topologyv1.Degraded, reason: "4 of 1200 requests fail (0.3 %)"},
		{from: "productpage-v1", to: "details-v1", requests: 1200, p50: 1.31, p95: 2.4, p99: 3.9, health: topologyv1.Healthy, reason: "all of 1200 requests succeed"},
		{from: "productpage-v1", to: "reviews-v1", requests: 400, p50: 1.9, p95: 3.1, p99: 5, health: topologyv1.Healthy, reason: "all of 400 requests succeed"},
		{from: "productpage-v1", to: "reviews-v2", requests: 400, errors: 4, p50: 6.1, p95: 14.7, p99: 99.97, health: topologyv1.Degraded, reason: "4 of 400 requests fail (1.0 %)"},
		{from: "productpage-v1", to: "reviews-v3", requests: 400, p50: 6.6, p95: 15.2, p99: 40, health: topologyv1.Healthy, reason: "all of 400 requests succeed"},
		{from: "reviews-v2", to: "ratings-v1", requests: 400, errors: 60, throttled: 12, p50: 2.2, p95: 8, p99: 1499, health: topologyv1.Failing, reason: "60 of 400 requests fail (15.0 %)"},
		{from: "reviews-v3", to: "ratings-v1", requests: 400, throttled: 30, p50: 2.4, p95: 7.7, p99: 22, health: topologyv1.Degraded, reason: "policy throttles 30 of 400 requests"},
	}
}

func serviceOf(workload string) string { return workload[:strings.LastIndexByte(workload, '-')] }

func signals(c call, window float64) topologyv1.Signals {
	return topologyv1.Signals{
		Requests: c.requests, Rate: float64(c.requests) / window, Errors: c.errors, Throttled: c.throttled,
		ErrorShare: float64(c.errors) / float64(max(1, c.requests)), P50: c.p50, P95: c.p95, P99: c.p99,
	}
}

// bookinfo is the fixed mesh: seven workloads, of which ratings fails and has
// lost one of its two sidecars.
func bookinfo(window int) *topologyv1.Graph {
	g := &topologyv1.Graph{SchemaVersion: 1, Sequence: 42, TimeMillis: fixedNow.UnixMilli(), WindowSeconds: window}
	for i, w := range []string{"loadgen-v1", "productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1"} {
		n := topologyv1.Node{
			ID: "default/" + w, Kind: "workload", Cluster: "local", Namespace: "default", Workload: w, Service: serviceOf(w),
			Version: w[strings.LastIndexByte(w, '-')+1:], X: float64(200 * i), Health: topologyv1.Healthy, HealthReason: "all requests succeed",
			Saturation: topologyv1.Saturation{InFlight: uint32(i), PoolActive: 1, CPUCores: 0.05 * float64(i), MemoryBytes: 20 << 20, ReportQueue: 0.01},
			Instances: []topologyv1.Instance{{
				Name: w + "-a", Connected: true, AppReachable: true, LastReportMillis: fixedNow.UnixMilli() - 400, SoftwareVersion: "0.1.0", AdminAddress: "127.0.0.1:15000",
			}},
		}
		for _, c := range bookinfoCalls() {
			switch w {
			case c.to:
				n.Inbound = sum(n.Inbound, signals(c, float64(window)))
				if severity(c.health) > severity(n.Health) {
					n.Health, n.HealthReason = c.health, c.reason
				}
			case c.from:
				n.Outbound = sum(n.Outbound, signals(c, float64(window)))
			}
		}
		if w == "ratings-v1" {
			n.Instances = append(n.Instances, topologyv1.Instance{
				Name: "ratings-v1-b", LastReportMillis: fixedNow.UnixMilli() - 42_000, SoftwareVersion: "0.3.0", AdminAddress: "127.0.0.1:15100",
			})
		}
		g.Nodes = append(g.Nodes, n)
	}
	for _, c := range bookinfoCalls() {
		source, destination, service := "default/"+c.from, "default/"+c.to, serviceOf(c.to)
		g.Edges = append(g.Edges, topologyv1.Edge{
			ID: source + "→" + destination + "|" + service + "|http", Source: source, Destination: destination,
			DestinationService: service, Protocol: "http", Security: "none", Health: c.health, HealthReason: c.reason,
			Signals: signals(c, float64(window)), Reporter: "source", SourceTotal: 10 * c.requests, DestinationTotal: 10*c.requests - c.errors,
			FirstSeenMillis: fixedNow.UnixMilli() - 600_000, LastSeenMillis: fixedNow.UnixMilli() - 20,
		})
	}
	g.Mesh = topologyv1.Mesh{
		Signals:  topologyv1.Signals{Requests: 4400, Rate: 4400 / float64(window), Errors: 68, ErrorShare: 68.0 / 4400, Throttled: 42, P50: 2.4, P95: 15.2, P99: 120},
		Sidecars: 8, SidecarsConnected: 7, Records: 88_000, RecordsLost: 3, LagMillis: 400,
	}
	return g
}

func bookinfoStatus(address string) *topologyv1.Status {
	s := &topologyv1.Status{
		SchemaVersion: 1, Version: "0.1.0", StartMillis: fixedNow.Add(-time.Hour - 2*time.Minute).UnixMilli(), NowMillis: fixedNow.UnixMilli(),
		HTTPAddress: address, GRPCAddress: "127.0.0.1:15010", DataDir: "data",
		Services: []topologyv1.ServiceStatus{},
		Store:    topologyv1.StoreStatus{Records: 88_000, Bytes: 3_400_000, Segments: 2, SealedRecords: 80_000, OldestMilli: fixedNow.Add(-time.Hour).UnixMilli()},
		Ingest:   topologyv1.IngestStatus{Batches: 9000, Duplicates: 3, Rejected: 1, Records: 88_003},
		Policies: bookinfoPolicies().Policies,
	}
	for _, n := range bookinfo(60).Nodes {
		for _, i := range n.Instances {
			s.Sidecars = append(s.Sidecars, topologyv1.SidecarStatus{
				Instance: i, Node: n.ID, Namespace: n.Namespace, Workload: n.Workload, Service: n.Service, Version: n.Version, Records: 11_000,
			})
		}
	}
	return s
}

func bookinfoPolicies() *topologyv1.PolicyList {
	return &topologyv1.PolicyList{
		Policies: []topologyv1.PolicyStatus{{
			Namespace: "default", Name: "ratings", File: "policies/ratings.yaml", Version: "3f1c", Mode: "Enforce",
			Rules: []topologyv1.PolicyRuleStatus{
				{Name: "no-delete", Summary: `deny if request.method == "DELETE"`, Allowed: 800},
				{Name: "at-most-50", Summary: "50 requests per 1s, burst 2", Allowed: 758, Throttled: 42},
			},
			Targets: []string{"Service default/ratings"}, Programmed: 1, Sidecars: 2,
		}},
		Errors: []topologyv1.PolicyError{{File: "policies/details.yaml", Line: 7, Column: 3, Reason: "rule: unknown field acces"}},
	}
}

func party(workload string) topologyv1.Party {
	return topologyv1.Party{
		Node: "default/" + workload, Cluster: "local", Namespace: "default", Workload: workload, Service: serviceOf(workload), Instance: workload + "-a",
	}
}

// record is one side of a hop; times are in milliseconds from the trace's start.
func record(reporter, from, to, path string, start, duration float64, code uint32) *topologyv1.Record {
	return &topologyv1.Record{
		Reporter: reporter, Source: party(from), Destination: party(to), Edge: "default/" + from + "→default/" + to + "|" + serviceOf(to) + "|http",
		DestinationService: serviceOf(to), StartUnixNano: fixedNow.UnixNano() - int64(5*time.Minute) + int64(start*1e6), DurationMs: duration,
		RequestID: fixedRequest, TraceID: fixedTrace, Sampled: true, Protocol: "http", HTTPVersion: "HTTP/1.1", Method: "GET", Path: path,
		Code: code, Attempts: 1, Verdict: "ok",
	}
}

// bookinfoTrace is a request that ratings throttles and whose call of reviews
// lacks the destination's record.
func bookinfoTrace() *topologyv1.Trace {
	throttled := record("destination", "reviews-v2", "ratings-v1", "/ratings/0", 7.6, 0.2, 429)
	throttled.Flags, throttled.Verdict, throttled.Rule, throttled.Detail = "RL", "throttled", "default/ratings/at-most-50", "rate_limited"
	retried := record("source", "reviews-v2", "ratings-v1", "/ratings/0", 7.1, 1.4, 429)
	retried.Attempts = 2
	hop := func(depth int, client, server *topologyv1.Record) topologyv1.Hop {
		outer := client
		if outer == nil {
			outer = server
		}
		return topologyv1.Hop{
			Depth: depth, OffsetMs: float64(outer.StartUnixNano-fixedNow.Add(-5*time.Minute).UnixNano()) / 1e6, DurationMs: outer.DurationMs,
			Client: client, Server: server, Edge: outer.Edge, Source: outer.Source.Node, Destination: outer.Destination.Node,
		}
	}
	hops := []topologyv1.Hop{
		hop(0, record("source", "loadgen-v1", "productpage-v1", "/productpage", 0, 14.2, 200), record("destination", "loadgen-v1", "productpage-v1", "/productpage", .3, 13.6, 200)),
		hop(1, record("source", "productpage-v1", "details-v1", "/details/0", 1.2, 2.1, 200), record("destination", "productpage-v1", "details-v1", "/details/0", 1.5, 1.6, 200)),
		hop(1, record("source", "productpage-v1", "reviews-v2", "/reviews/0\x1b[2J", 4.1, 8.9, 503), nil),
		hop(2, retried, throttled),
	}
	hops[2].Client.Flags, hops[2].Client.Detail, hops[2].Failed = "UC", "upstream_reset_before_response_started", true
	hops[2].Gap = "the sidecar of reviews-v2 was lost before it reported"
	return &topologyv1.Trace{
		SchemaVersion: 1, TraceID: fixedTrace, RequestID: fixedRequest, StartUnixNano: fixedNow.Add(-5 * time.Minute).UnixNano(), DurationMs: 14.2,
		Hops: hops, Gaps: []string{"reviews-v2 has not reported its side of GET /reviews/0"},
	}
}
