package demo

import (
	"strings"
	"testing"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
)

func TestOptionsValidate(t *testing.T) {
	for name, c := range map[string]struct {
		o  Options
		ok bool
	}{
		"endless": {Options{Rate: 10}, true}, "bounded with chaos": {Options{Rate: 10, Duration: time.Second, Chaos: "hub", JSON: true}, true},
		"unknown chaos": {Options{Rate: 10, Duration: time.Second, Chaos: "moon"}, false}, "chaos for ever": {Options{Rate: 10, Chaos: "hub"}, false},
		"result of an endless run": {Options{Rate: 10, JSON: true}, false}, "no rate": {Options{}, false}, "too fast": {Options{Rate: 5001}, false},
		"each edge another protocol": {Options{Rate: 10, Mixed: true}, true}, "and all the same": {Options{Rate: 10, Mixed: true, HTTP2: true}, false},
	} {
		if err := c.o.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAgree(t *testing.T) {
	same, less := Counts{5, 5, 5, 5}, Counts{5, 5, 5, 4}
	for name, c := range map[string]struct {
		edge  EdgeCounts
		chaos string
		want  bool
	}{
		"all equal":              {EdgeCounts{Counts: same, Received: same}, "", true},
		"calling side differs":   {EdgeCounts{Counts: less, Received: same}, "", false},
		"called side differs":    {EdgeCounts{Counts: same, Received: less}, "", false},
		"sides differ":           {EdgeCounts{Counts: same, Received: Counts{4, 4, 4, 4}}, "hub", false},
		"called side was killed": {EdgeCounts{Counts: same, Received: less}, "service", true},
		"killed, caller differs": {EdgeCounts{Counts: less, Received: same}, "sidecar", false},
	} {
		if got := agree([]EdgeCounts{c.edge}, c.chaos); got != c.want {
			t.Errorf("%s: agree = %t, want %t", name, got, c.want)
		}
	}
}

func TestOpaqueConnectionsAreCountedAndSoIsWhoWasRefused(t *testing.T) {
	const labels = `source_canonical_service="reviews",destination_service_name="ratings",request_protocol="tcp"`
	page, err := scrape.Parse(strings.NewReader(`# TYPE istio_tcp_connections_opened_total counter
istio_tcp_connections_opened_total{reporter="destination",` + labels + `,response_flags="-"} 9
istio_tcp_connections_opened_total{reporter="destination",` + labels + `,response_flags="UF"} 4
istio_tcp_connections_opened_total{reporter="destination",` + labels + `,response_flags="RL"} 2
# TYPE mesh_policy_checks_total counter
mesh_policy_checks_total{decision="allow",rule="a"} 100
mesh_policy_checks_total{decision="deny",rule="a"} 2
mesh_policy_checks_total{decision="deny",rule="b"} 1
`))
	if err != nil {
		t.Fatal(err)
	}
	got := scraped{make(map[side]uint64), make(map[side]uint64)}
	got.add(page)
	k := side{"destination", "reviews", "ratings"}
	if got.requests[k] != 15 || got.refused[k] != 4+2+3 {
		t.Errorf("counted %d, of which %d were refused; want 15 and 9", got.requests[k], got.refused[k])
	}
}

func TestComplete(t *testing.T) {
	hop := func(service, version string, code uint32) topologyv1.Hop {
		return topologyv1.Hop{Server: &topologyv1.Record{Code: code, Destination: topologyv1.Party{Service: service, Version: version}}}
	}
	page, details, ratings := hop("productpage", "v1", 200), hop("details", "v1", 200), hop("ratings", "v1", 200)
	for name, c := range map[string]struct {
		hops   []topologyv1.Hop
		gaps   []string
		opaque bool
		want   bool
	}{
		"with ratings":       {[]topologyv1.Hop{page, details, hop("reviews", "v2", 200), ratings}, nil, false, true},
		"v1 needs none":      {[]topologyv1.Hop{page, details, hop("reviews", "v1", 200)}, nil, false, true},
		"ratings missing":    {[]topologyv1.Hop{page, details, hop("reviews", "v3", 200)}, nil, false, false},
		"ratings has no IDs": {[]topologyv1.Hop{page, details, hop("reviews", "v3", 200)}, nil, true, true},
		"but details has":    {[]topologyv1.Hop{page, hop("reviews", "v3", 200)}, nil, true, false},
		"details missing":    {[]topologyv1.Hop{page, hop("reviews", "v1", 200)}, nil, false, false},
		"a gap":              {[]topologyv1.Hop{page, details, hop("reviews", "v1", 200)}, []string{"gap"}, false, false},
		"page was refused":   {[]topologyv1.Hop{hop("productpage", "v1", 429)}, nil, false, true},
		"nothing came back":  {nil, nil, false, false},
	} {
		if got := complete(&topologyv1.Trace{Hops: c.hops, Gaps: c.gaps}, c.opaque); got != c.want {
			t.Errorf("%s: complete = %t, want %t", name, got, c.want)
		}
	}
}
