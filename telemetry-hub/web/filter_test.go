package web

import (
	"net/url"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

func TestFilterMatches(t *testing.T) {
	edge := &telemetryv1.Edge{
		Reporter: telemetryv1.Reporter_REPORTER_SOURCE, DestinationService: "reviews.default.svc.cluster.local",
		Source:      &telemetryv1.Identity{Namespace: "default", Workload: "productpage-v1", Service: "productpage"},
		Destination: &telemetryv1.Identity{Namespace: "default", Workload: "reviews-v2", Service: "reviews"},
	}
	r := record.Record{Protocol: "http", Method: "GET", Path: "/reviews/0?x=1", Code: 503, Duration: 20 * time.Millisecond, Verdict: vocab.VerdictOK}
	for query, want := range map[string]bool{
		"": true, "limit=5&max_rps=1": true,
		"service=reviews": true, "service=productpage": true, "service=ratings": false, "service=": true,
		"from=productpage": true, "from=reviews": false, "to=default/reviews-v2": true, "to=default/reviews": true, "to=other/reviews": false,
		"node=default/reviews-v2": true, "node=reviews": false, "edge=none": false,
		"method=get": true, "method=POST": false, "path=/reviews": true, "path=/x": false,
		"reporter=source": true, "reporter=destination": false,
		"min_ms=20": true, "min_ms=20.5": false,
		"status=503": true, "status=5xx": true, "status=error": true, "status=200": false, "status=4xx": false, "status=denied": false,
		"service=reviews&status=200": false,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseFilter(q)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := f.match(&r, edge); got != want {
			t.Errorf("%s matches = %t, want %t", query, got, want)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	for _, query := range []string{"servise=reviews", "reporter=both", "min_ms=fast", "min_ms=-1", "min_ms=NaN", "min_ms=Inf", "status=6xx", "status=1000", "status=-1"} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseFilter(q); err == nil {
			t.Errorf("%s was taken", query)
		}
	}
}
