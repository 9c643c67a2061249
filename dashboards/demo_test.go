package dashboards

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// call is one edge of the demo, per step of the synthetic clock.
type call struct {
	from, to string // workloads; an empty from is a caller without a sidecar
	ok, bad  float64
}

// demoCalls is Bookinfo under load: a load generator with a sidecar, a person
// without one, three versions of reviews, and ratings that fail at times.
func demoCalls() []call {
	return []call{
		{"loadgen-v1", "productpage-v1", 30, 0},
		{"", "productpage-v1", 2, 0},
		{"productpage-v1", "details-v1", 32, 0},
		{"productpage-v1", "reviews-v1", 10, 0},
		{"productpage-v1", "reviews-v2", 11, 0},
		{"productpage-v1", "reviews-v3", 11, 0},
		{"reviews-v2", "ratings-v1", 10, 1},
		{"reviews-v3", "ratings-v1", 10, 1},
	}
}

const demoNamespace = "default"

func serviceOf(workload string) string { return workload[:len(workload)-len("-v1")] }

// demoGraph is the same mesh as the hub's graph shows it.
func demoGraph() *topologyv1.Graph {
	g := &topologyv1.Graph{}
	seen := map[string]bool{}
	node := func(workload string) string {
		kind := "workload"
		if workload == "" {
			kind, workload = "unknown", vocab.Unknown
		}
		if !seen[workload] {
			seen[workload] = true
			n := topologyv1.Node{ID: "node " + workload, Kind: kind, Namespace: demoNamespace, Workload: workload}
			if kind == "workload" {
				n.Service = serviceOf(workload)
			}
			g.Nodes = append(g.Nodes, n)
		}
		return "node " + workload
	}
	for _, c := range demoCalls() {
		g.Edges = append(g.Edges, topologyv1.Edge{Source: node(c.from), Destination: node(c.to)})
	}
	return g
}

// demo is a PromQL engine over what the hub would have stored of the demo
// until now.
type demo struct {
	engine *promql.Engine
	db     *tsdb.DB
	now    time.Time
}

const (
	demoStep  = 15 * time.Second
	demoSteps = 60
)

func newDemo(t *testing.T) *demo {
	t.Helper()
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	start := time.Unix(1_800_000_000, 0)
	app := db.Appender(context.Background())
	for step := range demoSteps {
		at := start.Add(time.Duration(step) * demoStep)
		w := sampleWriter{t: t, app: app, atMillis: at.UnixMilli(), n: float64(step)}
		for _, c := range demoCalls() {
			w.call(c)
		}
		w.sidecars()
		w.hub()
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return &demo{engine: engine, db: db, now: start.Add((demoSteps - 1) * demoStep)}
}

// query answers an instant query.
func (d *demo) query(t *testing.T, expr string) promql.Vector {
	t.Helper()
	q, err := d.engine.NewInstantQuery(t.Context(), d.db, nil, expr, d.now)
	if err != nil {
		t.Fatalf("%v\n%s", err, expr)
	}
	defer q.Close()
	res := q.Exec(t.Context())
	if res.Err != nil {
		t.Fatalf("%v\n%s", res.Err, expr)
	}
	v, err := res.Vector()
	if err != nil {
		t.Fatalf("%v\n%s", err, expr)
	}
	return slices.Clone(v)
}

// sampleWriter appends one sample of each series at one time; n is how many
// steps have passed, so that a counter of x per step stands at x*n.
type sampleWriter struct {
	t        *testing.T
	app      storage.Appender
	atMillis int64
	n        float64
}

func (w sampleWriter) write(metric string, set map[string]string, value float64) {
	w.t.Helper()
	b := labels.NewScratchBuilder(len(set) + 1)
	b.Add(model.MetricNameLabel, metric)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		b.Add(name, set[name])
	}
	b.Sort()
	if _, err := w.app.Append(0, b.Labels(), w.atMillis, value); err != nil {
		w.t.Fatalf("append %s: %v", metric, err)
	}
}

// histogram puts half of count into the second bucket and the rest into the
// third.
func (w sampleWriter) histogram(metric string, set map[string]string, bounds []float64, count float64) {
	for i, bound := range bounds {
		at := 0.0
		if i == 1 {
			at = count / 2
		} else if i > 1 {
			at = count
		}
		w.write(metric+suffixBucket, with(set, vocab.LabelBucket, fmt.Sprint(bound)), at)
	}
	w.write(metric+suffixBucket, with(set, vocab.LabelBucket, "+Inf"), count)
	w.write(metric+suffixSum, set, count*bounds[1])
	w.write(metric+suffixCount, set, count)
}

func with(set map[string]string, name, value string) map[string]string {
	more := maps.Clone(set)
	more[name] = value
	return more
}

func (w sampleWriter) call(c call) {
	reporters := []string{vocab.ReporterSource, vocab.ReporterDestination}
	if c.from == "" {
		reporters = reporters[1:]
	}
	for _, reporter := range reporters {
		set := map[string]string{}
		for _, name := range vocab.RequestLabels {
			set[name] = vocab.Unknown
		}
		set[vocab.LabelReporter] = reporter
		if c.from != "" {
			set[vocab.LabelSourceWorkload], set[vocab.LabelSourceWorkloadNamespace] = c.from, demoNamespace
			set[vocab.LabelSourceCanonicalService] = serviceOf(c.from)
		}
		set[vocab.LabelDestinationWorkload], set[vocab.LabelDestinationWorkloadNamespace] = c.to, demoNamespace
		set[vocab.LabelDestinationServiceName], set[vocab.LabelDestinationServiceNamespace] = serviceOf(c.to), demoNamespace
		set[vocab.LabelProtocol], set[vocab.LabelFlags], set[vocab.LabelGRPCStatus] = "http", vocab.NoFlags, ""
		w.responses(with(set, vocab.LabelCode, "200"), c.ok*w.n)
		if c.bad > 0 {
			w.responses(with(set, vocab.LabelCode, "503"), c.bad*w.n)
		}
	}
}

func (w sampleWriter) responses(set map[string]string, count float64) {
	w.write(vocab.MetricRequests, set, count)
	w.histogram(vocab.MetricRequestDuration, set, vocab.DurationBuckets, count)
	w.histogram(vocab.MetricRequestBytes, set, vocab.SizeBuckets, count)
	w.histogram(vocab.MetricResponseBytes, set, vocab.SizeBuckets, count)
}

func (w sampleWriter) sidecars() {
	names := map[string]bool{}
	for _, c := range demoCalls() {
		names[c.to] = true
		if c.from != "" {
			names[c.from] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		set := map[string]string{
			vocab.LabelNamespace: demoNamespace, vocab.LabelWorkload: name, vocab.LabelService: serviceOf(name),
			vocab.LabelVersion: name[len(name)-2:], vocab.LabelSidecar: name + "-0",
		}
		w.write(vocab.MetricInFlight, with(set, vocab.LabelDirection, vocab.DirectionInbound), 1)
		w.write(vocab.MetricInFlight, with(set, vocab.LabelDirection, vocab.DirectionOutbound), 2)
		w.write(vocab.MetricPoolConnections, with(set, vocab.LabelState, "active"), 1)
		w.write(vocab.MetricPoolConnections, with(set, vocab.LabelState, "idle"), 3)
		w.write(vocab.MetricPoolPending, set, 0)
		w.write(vocab.MetricSidecarCPU, set, w.n/10)
		w.write(vocab.MetricSidecarMemory, set, 20e6)
		w.write(vocab.MetricReportQueue, set, 0.1)
		w.write(vocab.MetricSidecarConnected, set, 1)
	}
}

func (w sampleWriter) hub() {
	w.write(vocab.MetricHubBatches, map[string]string{vocab.LabelResult: "accepted"}, w.n)
	w.write(vocab.MetricHubRecords, nil, w.n*100)
	w.write(vocab.MetricHubStreams, map[string]string{vocab.LabelKind: "telemetry"}, 8)
	w.histogram(vocab.MetricHubIngestDuration, map[string]string{}, []float64{.001, .01, .1}, w.n)
	w.histogram(vocab.MetricHubLookup, map[string]string{}, []float64{.001, .01, .1}, w.n)
	w.write(vocab.MetricHubStoreBytes, nil, 1e6)
	w.write(vocab.MetricHubStoreRecords, nil, 1e4)
	w.write(vocab.MetricHubStoreUnsealed, nil, 1)
	w.write(vocab.MetricHubMemoryUsed, nil, 1e8)
	w.write(vocab.MetricHubAdmitted, map[string]string{vocab.LabelState: "admitted"}, 1e5)
	w.write(vocab.MetricHubCorrupt, nil, 0)
	w.write(vocab.MetricHubEdges, nil, 8)
	w.write(vocab.MetricHubWatchers, nil, 1)
}
