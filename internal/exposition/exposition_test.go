package exposition

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

var update = flag.Bool("update", false, "write the golden files")

// snapshot is a caller of two instances, a caller nobody knows, and a gRPC edge.
func snapshot() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
	identity := func(workload, version, instance string) *telemetryv1.Identity {
		return &telemetryv1.Identity{Cluster: "local", Namespace: "default", Workload: workload, Service: "reviews", Version: version, Principal: "spiffe://mesh/" + workload, Instance: instance}
	}
	edge := func(r telemetryv1.Reporter, source *telemetryv1.Identity) *telemetryv1.Edge {
		return &telemetryv1.Edge{Reporter: r, Source: source, Destination: identity("reviews-v2", "v2", "r-0"), DestinationService: "reviews.default.svc.cluster.local", Security: "none"}
	}
	edges := []*telemetryv1.Edge{
		edge(telemetryv1.Reporter_REPORTER_SOURCE, identity("productpage-v1", "v1", "p-0")),
		edge(telemetryv1.Reporter_REPORTER_SOURCE, identity("productpage-v1", "v1", "p-1")),
		edge(telemetryv1.Reporter_REPORTER_DESTINATION, nil),
	}
	row := func(edge, code uint32, verdict string, requests uint64) *telemetryv1.Aggregate {
		a := &telemetryv1.Aggregate{
			Edge: edge, Protocol: "http", ResponseCode: code, ResponseFlags: vocab.NoFlags, Verdict: verdict,
			Requests: requests, DurationSumNanos: requests * 3e6, RequestBytesSum: requests * 10, ResponseBytesSum: requests * 5000,
			DurationBucket: make([]uint64, len(vocab.DurationBuckets)+1), RequestBytesBucket: make([]uint64, len(vocab.SizeBuckets)+1), ResponseBytesBucket: make([]uint64, len(vocab.SizeBuckets)+1),
		}
		a.DurationBucket[1], a.RequestBytesBucket[0], a.ResponseBytesBucket[2] = requests, requests, requests
		return a
	}
	rows := []*telemetryv1.Aggregate{row(0, 200, "ok", 5), row(1, 200, "ok", 7), row(1, 200, "shadow_denied", 1), row(2, 503, "ok", 2), row(9, 200, "ok", 1)}
	rows[3].Protocol, rows[3].GrpcStatus, rows[3].ResponseFlags = "grpc", "14", "UF"
	rows[3].DurationBucket = []uint64{12: 2} // both beyond the last bound
	for _, code := range []uint32{0, 200} {  // two outcomes of a connection, which have no label
		opaque := row(0, code, "ok", 3)
		opaque.Protocol = vocab.ProtocolTCP
		rows = append(rows, opaque)
	}
	old := &telemetryv1.Exemplar{Bucket: 1, TraceId: []byte{0xaa}, DurationNanos: 3e6, TimeUnixNano: 1e18}
	fresh := &telemetryv1.Exemplar{Bucket: 1, TraceId: []byte{0xbb}, DurationNanos: 2e6, TimeUnixNano: 1e18 + 1e9}
	rows[0].Exemplars, rows[1].Exemplars = []*telemetryv1.Exemplar{old}, []*telemetryv1.Exemplar{fresh, {Bucket: 1 << 30}}
	return edges, rows
}

// scrape returns the text of /metrics in the form that accept asks for.
func scrape(t *testing.T, accept string, take func() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate)) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	if err := reg.Register(NewCollector(take)); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const openMetrics = "application/openmetrics-text; version=1.0.0"

func TestExposition(t *testing.T) {
	for file, accept := range map[string]string{"testdata/text.golden": "text/plain", "testdata/openmetrics.golden": openMetrics} {
		got := scrape(t, accept, snapshot)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got); rewrite with -update:\n%s", file, diff)
		}
	}
}

func TestExpositionIsWellFormed(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, "text/plain", snapshot))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// Istio's standard metrics are in milliseconds.
		if !strings.Contains(p.Text, "milliseconds") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestExemplarsAreInOpenMetricsOnly(t *testing.T) {
	if got := scrape(t, openMetrics, snapshot); strings.Count(got, `# {trace_id="bb"} 2.0`) != 1 || strings.Contains(got, `"aa"`) {
		t.Errorf("the newest exemplar of the bucket is not the only one:\n%s", got)
	}
	if got := scrape(t, "text/plain", snapshot); strings.Contains(got, "trace_id") {
		t.Error("the text format has exemplars")
	}
}

func TestSumAddsInstancesAndVerdicts(t *testing.T) {
	sums := Sum(snapshot())
	if len(sums) != 3 {
		t.Fatalf("%d rows, want 3", len(sums))
	}
	for _, r := range sums {
		if r.tcp {
			if len(r.Labels) != len(vocab.TCPLabels) || r.Requests != 6 {
				t.Errorf("row of TCP = %+v, want 6 connections", r)
			}
			continue
		}
		if len(r.Labels) != len(vocab.RequestLabels) {
			t.Errorf("%d labels, want %d", len(r.Labels), len(vocab.RequestLabels))
		}
		if r.Labels[0] == vocab.ReporterSource && (r.Requests != 13 || r.Duration[1] != 13 || r.DurationSumNanos != 39e6 || r.ResponseBytes[2] != 13) {
			t.Errorf("row = %+v, want 13 requests", r)
		}
	}
}

func TestALabelThatIsNotUTF8DoesNotEndTheProcess(t *testing.T) {
	got := scrape(t, "text/plain", func() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
		edges, rows := snapshot()
		edges[0].Source.Workload = "evil\xff"
		return edges, rows
	})
	if !strings.Contains(got, "UTF-8") {
		t.Errorf("the scrape does not say what is wrong:\n%s", got)
	}
}
