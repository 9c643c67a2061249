package graph

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
	"github.com/telemesh/telemesh/telemetry-hub/layout"
)

// start of the mesh in every test.
var start = time.Unix(1_700_000_000, 0)

type fakeRegistry struct{ list []Presence }

func (r *fakeRegistry) Presence() []Presence { return r.list }

// mesh is a graph with a clock.
type mesh struct {
	*Graph
	now      time.Time
	registry fakeRegistry
}

func newMesh() *mesh {
	m := &mesh{now: start}
	clock := func() time.Time { return m.now }
	l, _ := layout.New("", clock) // without a file there is nothing to fail
	none := func() uint64 { return 0 }
	m.Graph = New(Options{Registry: &m.registry, Layout: l, Records: none, RecordsLost: none, Now: clock})
	return m
}

func (m *mesh) at(second int) { m.now = start.Add(time.Duration(second) * time.Second) }

// sample is what one sidecar reports of one edge at one second.
type sample struct {
	second   int
	reporter telemetryv1.Reporter
	source   *telemetryv1.Identity
	dest     *telemetryv1.Identity
	row      *telemetryv1.Aggregate
	security string
}

func workload(name string) *telemetryv1.Identity {
	return &telemetryv1.Identity{Namespace: "default", Workload: name, Service: name}
}

// requests is a row of n requests of one millisecond.
func requests(n uint64, code uint32) *telemetryv1.Aggregate {
	return &telemetryv1.Aggregate{
		Protocol: "http", ResponseCode: code, ResponseFlags: "-", Verdict: vocab.VerdictOK, Requests: n, RequestBytesSum: n, ResponseBytesSum: 2 * n,
		DurationIndex: []uint32{uint32(histogram.Index(1e6))}, DurationCount: []uint64{n},
	}
}

func (m *mesh) apply(samples ...sample) {
	for _, s := range samples {
		reporter := s.reporter
		if reporter == 0 {
			reporter = telemetryv1.Reporter_REPORTER_SOURCE
		}
		source, dest := s.source, s.dest
		if source == nil {
			source = workload("a")
		}
		if dest == nil {
			dest = workload("b")
		}
		e := &telemetryv1.Edge{Reporter: reporter, Source: source, Destination: dest, DestinationService: "b.default.svc.cluster.local", Security: s.security}
		b := &telemetryv1.Batch{TimeUnixNano: start.Add(time.Duration(s.second) * time.Second).UnixNano()}
		m.Apply(b, []counters.Delta{{Edge: e, Row: s.row}})
	}
}

func edgeOf(t *testing.T, g topologyv1.Graph) topologyv1.Edge {
	t.Helper()
	if len(g.Edges) != 1 {
		t.Fatalf("%d edges, want 1", len(g.Edges))
	}
	return g.Edges[0]
}

func nodeOf(t *testing.T, g topologyv1.Graph, id string) topologyv1.Node {
	t.Helper()
	i := slices.IndexFunc(g.Nodes, func(n topologyv1.Node) bool { return n.ID == id })
	if i < 0 {
		t.Fatalf("no node %s", id)
	}
	return g.Nodes[i]
}

func TestRatesAreOverTheAgeOfTheEdge(t *testing.T) {
	m := newMesh()
	for s := range 10 {
		m.at(s)
		m.apply(sample{second: s, row: requests(20, 200)})
	}
	check := func(at, window int, requests uint64, rate float64) {
		t.Helper()
		m.at(at)
		got := edgeOf(t, m.Snapshot(window)).Signals
		if got.Requests != requests || math.Abs(got.Rate-rate) > 1e-9 {
			t.Errorf("at %d over %d s: %d requests, %v/s; want %d, %v/s", at, window, got.Requests, got.Rate, requests, rate)
		}
	}
	check(6, 60, 100, 20)           // five whole seconds have settled
	check(11, 60, 200, 20)          // all ten
	check(11, 5, 100, 20)           // the newest five
	check(16, 10, 100, 10)          // traffic stopped halfway
	check(70, 60, 20, 1./3)         // the last cell is still in
	check(71, 60, 0, 0)             // and now it is out
	check(900, 9999, 200, 200./899) // a window longer than the ring
}

func TestSignalsByKindOfAnswer(t *testing.T) {
	row := func(code uint32, grpc, verdict string) *telemetryv1.Aggregate {
		a := requests(1, code)
		a.GrpcStatus, a.Verdict = grpc, verdict
		return a
	}
	for _, c := range []struct {
		name string
		row  *telemetryv1.Aggregate
		want counts
	}{
		{"success", row(200, "", "ok"), counts{}},
		{"gRPC success", row(200, "0", "ok"), counts{}},
		{"gRPC failure", row(200, "14", "ok"), counts{errors: 1}},
		{"server error", row(503, "", "ok"), counts{errors: 1}},
		{"no answer", row(0, "", "ok"), counts{errors: 1}},
		{"client error", row(404, "", "ok"), counts{clientErrors: 1}},
		{"denied", row(403, "", "denied"), counts{denied: 1}},
		{"denied in gRPC", row(200, "7", "denied"), counts{denied: 1}},
		{"throttled", row(429, "", "throttled"), counts{throttled: 1}},
		{"would be denied", row(200, "", "shadow_denied"), counts{}},
	} {
		got := classify(c.row)
		c.want.requests, c.want.bytesIn, c.want.bytesOut = 1, 1, 2
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestHealthOfAnEdge(t *testing.T) {
	throttled := requests(1, 429)
	throttled.Verdict = vocab.VerdictThrottled
	for _, c := range []struct {
		name string
		rows []*telemetryv1.Aggregate
		want topologyv1.Health
	}{
		{"all well", []*telemetryv1.Aggregate{requests(1000, 200)}, topologyv1.Healthy},
		{"one of 1001", []*telemetryv1.Aggregate{requests(1000, 200), requests(1, 500)}, topologyv1.Healthy},
		{"one of 1000", []*telemetryv1.Aggregate{requests(999, 200), requests(1, 500)}, topologyv1.Degraded},
		{"one of ten", []*telemetryv1.Aggregate{requests(9, 200), requests(1, 500)}, topologyv1.Failing},
		{"client errors", []*telemetryv1.Aggregate{requests(9, 404)}, topologyv1.Healthy},
		{"throttled", []*telemetryv1.Aggregate{requests(1000, 200), throttled}, topologyv1.Degraded},
	} {
		m := newMesh()
		for _, r := range c.rows {
			m.apply(sample{row: r})
		}
		m.at(2)
		if e := edgeOf(t, m.Snapshot(60)); e.Health != c.want || e.HealthReason == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, e.Health, e.HealthReason, c.want)
		}
		m.at(100)
		if e := edgeOf(t, m.Snapshot(60)); e.Health != topologyv1.Idle {
			t.Errorf("%s, later: %s, want idle", c.name, e.Health)
		}
	}
}

func TestHealthOfANodeByItsSidecars(t *testing.T) {
	up := topologyv1.Instance{Name: "up", Connected: true, AppReachable: true}
	lost := topologyv1.Instance{Name: "lost", AppReachable: true}
	deaf := topologyv1.Instance{Name: "deaf", Connected: true}
	for _, c := range []struct {
		instances []topologyv1.Instance
		want      topologyv1.Health
	}{
		{[]topologyv1.Instance{up}, topologyv1.Healthy},
		{[]topologyv1.Instance{lost}, topologyv1.Lost},
		{[]topologyv1.Instance{deaf}, topologyv1.Failing},
		{[]topologyv1.Instance{lost, deaf}, topologyv1.Failing},
		{[]topologyv1.Instance{up, lost}, topologyv1.Degraded},
		{[]topologyv1.Instance{up, deaf}, topologyv1.Degraded},
	} {
		m := newMesh()
		m.apply(sample{row: requests(1, 200)})
		for _, i := range c.instances {
			m.registry.list = append(m.registry.list, Presence{Node: RefOf(workload("b")), Instance: i})
		}
		m.at(2)
		g := m.Snapshot(60)
		if n := nodeOf(t, g, "default/b"); n.Health != c.want {
			t.Errorf("%v: %s (%s), want %s", c.instances, n.Health, n.HealthReason, c.want)
		}
		if g.Mesh.Sidecars != len(c.instances) {
			t.Errorf("%d sidecars, want %d", g.Mesh.Sidecars, len(c.instances))
		}
	}
}

func TestEndsThatAreNoWorkloads(t *testing.T) {
	unknown := &telemetryv1.Identity{Workload: "unknown", Service: "unknown", Namespace: "unknown"}
	for _, c := range []struct {
		id       *telemetryv1.Identity
		wantID   string
		wantKind string
	}{
		{workload("b"), "default/b", KindWorkload},
		{unknown, "unknown", KindUnknown},
		{nil, "unknown", KindUnknown},
		{&telemetryv1.Identity{Service: "PassthroughCluster"}, "external", KindExternal},
		{&telemetryv1.Identity{Namespace: "default", Service: "ratings"}, "service/default/ratings", KindService},
	} {
		if r := RefOf(c.id); r.ID != c.wantID || r.Kind != c.wantKind {
			t.Errorf("%v: %s of kind %s, want %s of kind %s", c.id, r.ID, r.Kind, c.wantID, c.wantKind)
		}
	}
}

func TestReportersAreKeptApart(t *testing.T) {
	m := newMesh()
	dest := telemetryv1.Reporter_REPORTER_DESTINATION
	for s := range 20 {
		m.at(s)
		m.apply(sample{second: s, row: requests(100, 200), security: "none"}, sample{second: s, reporter: dest, row: requests(100, 200), security: "mutual_tls"})
	}
	m.apply(sample{second: 19, row: requests(1, 200), security: "none"})
	m.at(30)
	e := edgeOf(t, m.Snapshot(60))
	if e.SourceTotal != 2001 || e.DestinationTotal != 2000 || e.Signals.Requests != 2001 || e.Reporter != "source" || e.Disagreement || e.Security != "mutual_tls" {
		t.Errorf("edge = %+v, want agreement on 2001 and 2000 by the source, security by the destination", e)
	}
	m.apply(sample{second: 19, row: requests(50, 503)}) // requests that never arrived
	if e = edgeOf(t, m.Snapshot(60)); !e.Disagreement {
		t.Errorf("edge = %+v, want disagreement", e)
	}
}

func TestClocksThatAreWrong(t *testing.T) {
	m := newMesh()
	m.at(10)
	m.apply(sample{second: 1e6, row: requests(1, 200)}) // counts as of now
	m.apply(sample{second: -1e6, row: requests(2, 200)})
	m.apply(sample{second: -2e9, row: requests(4, 200)}) // before 1970
	m.at(12)
	e := edgeOf(t, m.Snapshot(60))
	if e.SourceTotal != 7 || e.Signals.Requests != 1 {
		t.Errorf("total %d, in the window %d; want 7 and 1", e.SourceTotal, e.Signals.Requests)
	}
}

func TestRestoredTotalsAreInNoWindow(t *testing.T) {
	m := newMesh()
	edge := &telemetryv1.Edge{Reporter: telemetryv1.Reporter_REPORTER_SOURCE, Source: workload("a"), Destination: workload("b"), DestinationService: "b.default.svc.cluster.local"}
	m.Restore([]counters.Delta{{Edge: edge, Row: requests(100, 200)}})
	m.at(2)
	if g := m.Snapshot(60); len(g.Edges) != 0 {
		t.Errorf("an edge without traffic is in the picture: %+v", g.Edges)
	}
	m.apply(sample{second: 0, row: requests(1, 200)})
	if e := edgeOf(t, m.Snapshot(60)); e.SourceTotal != 101 || e.Signals.Requests != 1 {
		t.Errorf("total %d, in the window %d; want 101 and 1", e.SourceTotal, e.Signals.Requests)
	}
}

func TestSaturationOfAHostileSidecarIsStillJSON(t *testing.T) {
	m := newMesh()
	m.apply(sample{row: requests(1, 200)})
	for i, ratio := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0.5} {
		for s := range 3 {
			m.Apply(&telemetryv1.Batch{
				Sender: fmt.Sprint("s", i), Node: workload("b"), TimeUnixNano: start.Add(time.Duration(s) * time.Second).UnixNano(),
				Saturation: &telemetryv1.Saturation{ReportQueueRatio: ratio, InboundInFlight: 2, CpuNanos: uint64(s) * 5e8, MemoryBytes: 10},
			}, nil)
		}
	}
	m.at(3)
	g := m.Snapshot(60)
	if _, err := json.Marshal(g); err != nil {
		t.Errorf("encode: %v", err)
	}
	if got, want := nodeOf(t, g, "default/b").Saturation, (topologyv1.Saturation{InFlight: 8, CPUCores: 2, MemoryBytes: 40, ReportQueue: 1}); got != want {
		t.Errorf("saturation = %+v, want %+v", got, want)
	}
	m.at(60)
	if got := nodeOf(t, m.Snapshot(60), "default/b").Saturation; got != (topologyv1.Saturation{}) {
		t.Errorf("saturation of sidecars not heard of = %+v, want none", got)
	}
}

func TestIdleEdgesLetTheirCellsGo(t *testing.T) {
	m := newMesh()
	m.apply(sample{row: requests(3, 200)})
	m.at(2 * Seconds)
	m.apply(sample{second: 2 * Seconds, source: workload("c"), row: requests(1, 200)})
	for _, e := range m.edges {
		for _, c := range e.bySource.cells {
			if c != nil && c.second < start.Unix()+Seconds {
				t.Error("a cell of an idle edge is kept")
			}
		}
	}
	if n := len(m.Snapshot(60).Edges); n != 1 || m.Edges() != 1 {
		t.Errorf("%d edges in the picture, %d counted, want 1", n, m.Edges())
	}
	totals := m.Totals()
	for id, n := range totals {
		if strings.HasPrefix(id, "default/a") && n[0] != 3 {
			t.Errorf("total of the idle edge = %d, want 3", n[0])
		}
	}
}

func TestSeriesHaveOneLengthAndTheRightSeconds(t *testing.T) {
	m := newMesh()
	m.apply(sample{second: 0, row: requests(5, 200)}, sample{second: 2, row: requests(7, 503)})
	m.at(4)
	id := m.Snapshot(60).Edges[0].ID
	for _, window := range []int{-1, 1, 3, 300, 5000} {
		for name, get := range map[string]func() (topologyv1.Series, bool){
			"edge":   func() (topologyv1.Series, bool) { return m.EdgeSeries(id, window) },
			"callee": func() (topologyv1.Series, bool) { return m.NodeSeries("default/b", window) },
			"caller": func() (topologyv1.Series, bool) { return m.NodeSeries("default/a", window) },
		} {
			s, ok := get()
			n := min(max(window, 1), Seconds-2)
			if !ok || s.StartMillis != (start.Unix()+3-int64(n))*1000 {
				t.Fatalf("%s over %d: found %v, start %d", name, window, ok, s.StartMillis)
			}
			for i, list := range [][]float64{s.Rate, s.Errors, s.Denied, s.Throttled, s.P50, s.P95, s.P99, s.InFlight, s.CPUCores, s.MemoryByte} {
				if len(list) != n {
					t.Errorf("%s over %d: list %d has %d points, want %d", name, window, i, len(list), n)
				}
			}
			if s.Rate[n-1] != 7 || s.Errors[n-1] != 7 {
				t.Errorf("%s over %d: the newest point is %v/s, %v failed; want 7", name, window, s.Rate[n-1], s.Errors[n-1])
			}
			if n >= 3 && (s.Rate[n-3] != 5 || s.Rate[n-2] != 0 || s.P50[n-2] != -1 || len(s.Responses) != 2 || s.Responses[0].Code != 503) {
				t.Errorf("%s over %d: %v, %v, %v", name, window, s.Rate[n-3:], s.P50[n-3:], s.Responses)
			}
		}
	}
	if _, ok := m.NodeSeries("nobody", 10); ok {
		t.Error("there is a series of a node that does not exist")
	}
	if _, ok := m.EdgeSeries("nothing", 10); ok {
		t.Error("there is a series of an edge that does not exist")
	}
}

func TestTheOrderOfBatchesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) sample {
			name := rapid.SampledFrom([]string{"a", "b", "c"})
			return sample{
				second:   rapid.IntRange(0, 30).Draw(t, "second"),
				reporter: telemetryv1.Reporter(rapid.IntRange(1, 2).Draw(t, "reporter")),
				source:   workload(name.Draw(t, "source")), dest: workload(name.Draw(t, "destination")), security: "none",
				row: requests(rapid.Uint64Range(1, 100).Draw(t, "n"), rapid.SampledFrom([]uint32{200, 404, 503}).Draw(t, "code")),
			}
		})
		samples := rapid.SliceOfN(one, 1, 30).Draw(t, "samples")
		var graphs [2]topologyv1.Graph
		for i, list := range [][]sample{samples, rapid.Permutation(samples).Draw(t, "permutation")} {
			m := newMesh()
			m.at(32)
			m.apply(list...)
			graphs[i] = m.Snapshot(60)
		}
		if diff := cmp.Diff(graphs[0], graphs[1]); diff != "" {
			t.Fatalf("two orders, two graphs:\n%s", diff)
		}
	})
}

// A process that drains beside its successor says how much CPU it has used since
// long ago: to take that for the successor's would be a load of many cores.
func TestSaturationIsTheSuccessors(t *testing.T) {
	m := newMesh()
	m.at(20)
	tell := func(second int64, epoch uint64, cpu time.Duration) {
		m.Apply(&telemetryv1.Batch{
			Sender: "b-1", Epoch: epoch, TimeUnixNano: start.Add(time.Duration(second) * time.Second).UnixNano(), Node: workload("b"),
			Saturation: &telemetryv1.Saturation{CpuNanos: uint64(cpu)},
		}, nil)
	}
	tell(1, 1, time.Hour)
	tell(2, 2, time.Second)
	tell(3, 1, time.Hour)
	tell(4, 2, 2*time.Second)
	if s, at := m.Heard("b-1"); s.GetCpuNanos() != uint64(2*time.Second) || at != start.Add(4*time.Second).UnixNano() {
		t.Errorf("heard %v at %d", s, at)
	}
	if cpu := m.gauges["b-1"].cpu; cpu != 0.5 {
		t.Errorf("cpu %v, want 0.5", cpu)
	}
	tell(10, 1, time.Second) // it is alone again
	if s, _ := m.Heard("b-1"); s.GetCpuNanos() != uint64(time.Second) {
		t.Errorf("heard %v", s)
	}
}
