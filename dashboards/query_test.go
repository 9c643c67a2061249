package dashboards

import (
	"flag"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/vocab"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the golden files")
	goleak.VerifyTestMain(m)
}

func demoQueries() []Query {
	var all []Query
	for _, b := range Generate(FromGraph(demoGraph())) {
		all = append(all, b.Queries()...)
	}
	return all
}

// answered says whether v has a number to show.
func answered(values []float64) bool {
	return slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) })
}

func TestEveryQueryAnswersOrSaysWhyNot(t *testing.T) {
	d := newDemo(t)
	checked, excused := 0, map[string]int{}
	for _, q := range demoQueries() {
		var values []float64
		for _, s := range d.query(t, q.Resolve(nil)) {
			values = append(values, s.F)
		}
		checked++
		if answered(values) {
			continue
		}
		if q.MayBeEmpty == "" {
			t.Errorf("%s / %s: no answer:\n%s", q.Board, q.Panel, q.Resolve(nil))
		}
		excused[q.MayBeEmpty]++
	}
	if checked < 500 {
		t.Errorf("only %d queries were checked", checked)
	}
	// Bookinfo has no policy, no TCP and no gRPC, and its hub neither bucket nor
	// memory limit; only the leaves among its
	// services and the load generator have an idle side.
	for reason := range excused {
		if !slices.Contains([]string{emptyNoPolicy, emptyNoTCP, emptyNoGRPC, emptyNoDrops, emptyNoLosses, emptyNoLimits, emptyNoBucket, emptyNoMemoryLimit, emptyLeaf, emptyNotServing}, reason) {
			t.Errorf("%d queries are empty because %q, which is not so in the demo", excused[reason], reason)
		}
	}
}

func TestNumbersAreRight(t *testing.T) {
	d := newDemo(t)
	perSecond := func(perStep float64) float64 { return perStep / demoStep.Seconds() }
	tests := []struct {
		board, panel string
		want         float64
	}{
		{"Mesh", "Requests", perSecond(30 + 2 + 32 + 10 + 11 + 11 + 11 + 11)},
		{"Mesh", "Error share", 2.0 / 118},
		{"Mesh", "Sidecars connected", 1},
		{"Service productpage (default)", "Requests", perSecond(32)},
		{"Service details (default)", "Error share", 0},
		{"Service details (default)", "Errors", 0},
		{"Service ratings (default)", "Requests", perSecond(22)},
		{"Service ratings (default)", "Error share", 2.0 / 22},
		{"Service ratings (default)", "Error budget left", 1 - (2.0/22)/(1-.999)},
		{"Service ratings (default)", "Latency p95", 9.5},
		{"Workload reviews-v2 (default)", "Requests", perSecond(11)},
		{"Workload reviews-v2 (default)", "Outbound traffic", perSecond(11)},
		{"Workload reviews-v2 (default)", "Outbound errors", 1.0 / 11},
		{"Workload loadgen-v1 (default)", "Requests", 0},
		{"Hub", "Records", perSecond(100)},
		{"Hub", "Rejected", 0},
	}
	queries := demoQueries()
	for _, tt := range tests {
		i := slices.IndexFunc(queries, func(q Query) bool { return q.Board == tt.board && q.Panel == tt.panel })
		if i < 0 {
			t.Errorf("%s has no panel %q", tt.board, tt.panel)
			continue
		}
		v := d.query(t, queries[i].Resolve(map[string]string{"__range": "10m"}))
		if len(v) != 1 || math.Abs(v[0].F-tt.want) > 1e-6 {
			t.Errorf("%s / %s: got %v, want one %v\n%s", tt.board, tt.panel, v, tt.want, queries[i].Resolve(nil))
		}
	}
}

// metricLabels is every metric of the hub's PromQL with its labels; a
// histogram is listed by its base name.
func metricLabels() (metrics map[string][]string, histograms []string) {
	metrics = map[string][]string{}
	for _, m := range []string{
		vocab.MetricRequests, vocab.MetricRequestMessages, vocab.MetricResponseMessages, vocab.MetricTCPOpened,
		vocab.MetricTCPClosed, vocab.MetricTCPSentBytes, vocab.MetricTCPReceivedBytes,
		vocab.MetricRequestDuration, vocab.MetricRequestBytes, vocab.MetricResponseBytes,
	} {
		metrics[m] = vocab.RequestLabels
	}
	for m, own := range map[string][]string{
		vocab.MetricInFlight: {vocab.LabelDirection}, vocab.MetricPoolConnections: {vocab.LabelState},
		vocab.MetricPoolPending: nil, vocab.MetricSidecarCPU: nil, vocab.MetricSidecarMemory: nil,
		vocab.MetricReportQueue: nil, vocab.MetricSidecarConnected: nil,
		vocab.MetricRecordsDropped: {vocab.LabelReason},
		vocab.MetricPolicyChecks:   {vocab.LabelPolicy, vocab.LabelRule, vocab.LabelDecision, vocab.LabelOrigin},
	} {
		metrics[m] = append(slices.Clone(vocab.SidecarLabels), own...)
	}
	for m, own := range map[string][]string{
		vocab.MetricHubBatches: {vocab.LabelResult}, vocab.MetricHubRejected: {vocab.LabelReason}, vocab.MetricHubRecords: nil,
		vocab.MetricHubLostRecords: {vocab.LabelReason}, vocab.MetricHubStreams: {vocab.LabelKind},
		vocab.MetricHubIngestDuration: nil, vocab.MetricHubStoreBytes: nil, vocab.MetricHubStoreRecords: nil,
		vocab.MetricHubLookup: nil, vocab.MetricHubCorrupt: nil, vocab.MetricHubEdges: nil, vocab.MetricHubWatchers: nil,
		vocab.MetricHubStoreUnsealed: nil, vocab.MetricHubBucketWaiting: nil, vocab.MetricHubBucketUploads: {vocab.LabelResult},
		vocab.MetricHubBucketUnread: nil, vocab.MetricHubBucketErrors: nil,
		vocab.MetricHubMemoryUsed: nil, vocab.MetricHubMemoryLimit: nil, vocab.MetricHubAdmitted: {vocab.LabelState},
		vocab.MetricHubPolicyReloads: {vocab.LabelResult}, vocab.MetricHubLeaseGrants: {vocab.LabelLimit},
	} {
		metrics[m] = own
	}
	return metrics, []string{
		vocab.MetricRequestDuration, vocab.MetricRequestBytes, vocab.MetricResponseBytes,
		vocab.MetricHubIngestDuration, vocab.MetricHubLookup,
	}
}

// labelsOfSeries answers the labels of a series by the name it has in PromQL.
func labelsOfSeries(name string) ([]string, bool) {
	metrics, histograms := metricLabels()
	for _, h := range histograms {
		switch name {
		case h + suffixBucket:
			return append(slices.Clone(metrics[h]), vocab.LabelBucket), true
		case h + suffixSum, h + suffixCount:
			return metrics[h], true
		case h:
			return nil, false
		}
	}
	own, ok := metrics[name]
	return own, ok
}

// fault says what is wrong with an expression's names, empty if nothing.
func fault(expr string) string {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return err.Error()
	}
	var faults []string
	var walk func(n parser.Node) (carried []string)
	walk = func(n parser.Node) (carried []string) {
		for child := range parser.ChildrenIter(n) {
			carried = append(carried, walk(child)...)
		}
		switch n := n.(type) {
		case *parser.VectorSelector:
			own, ok := labelsOfSeries(n.Name)
			if !ok {
				faults = append(faults, "unknown metric "+n.Name)
			}
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel && !slices.Contains(own, m.Name) {
					faults = append(faults, n.Name+" has no label "+m.Name)
				}
			}
			return own
		case *parser.AggregateExpr:
			for _, name := range n.Grouping {
				if !slices.Contains(carried, name) {
					faults = append(faults, "grouped by "+name+", which nothing inside carries")
				}
			}
			return n.Grouping
		case *parser.Call:
			if n.Func.Name == "irate" {
				faults = append(faults, "irate hides what happens between samples")
			}
		}
		return carried
	}
	walk(tree)
	return strings.Join(faults, "; ")
}

func TestEveryNameIsInTheVocabulary(t *testing.T) {
	for _, q := range demoQueries() {
		if f := fault(q.Resolve(nil)); f != "" {
			t.Errorf("%s / %s: %s\n%s", q.Board, q.Panel, f, q.Expr)
		}
	}
	for expr, want := range map[string]string{
		`rate(istio_requests_total[1m])`:                     "",
		`sum by (reporter) (rate(istio_requests_total[1m]))`: "",
		`istio_request_total`:                                "unknown metric",
		`istio_requests_total{code="200"}`:                   "has no label code",
		`sum by (le) (rate(istio_requests_total[1m]))`:       "nothing inside carries",
		`irate(istio_requests_total[1m])`:                    "irate",
		`rate(istio_request_bytes[1m])`:                      "unknown metric",
		`sum(`:                                               "parse error",
	} {
		if got := fault(expr); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("the check itself: %s: got %q, want %q", expr, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	f := func(expr string, vars map[string]string, want string) {
		t.Helper()
		q := Query{Expr: expr, variables: map[string]string{"namespace": ".*", "objective": "99.9"}}
		if got := q.Resolve(vars); got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
	f(`rate(x[$__rate_interval])`, nil, `rate(x[1m])`)
	f(`rate(x[${__rate_interval}])`, map[string]string{"__rate_interval": "20s"}, `rate(x[20s])`)
	f(`increase(x[$__range])`, nil, `increase(x[1h])`)
	f(`x{n=~"$namespace"}`, nil, `x{n=~".*"}`)
	f(`x{n=~"${namespace:regex}"}`, map[string]string{"namespace": "a|b"}, `x{n=~"a|b"}`)
	f(`1 - $objective / 100`, nil, `1 - 99.9 / 100`)
	f(`x{path="$unknown"}`, nil, `x{path="$unknown"}`)
}
