package demo

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// Result is the last line of a bounded run with --json.
type Result struct {
	Sent    uint64       `json:"sent"`
	Failed  uint64       `json:"failed"`
	Edges   []EdgeCounts `json:"edges"`
	Lookups Lookups      `json:"lookups"`
	// Verdicts of policy over the whole run.
	Throttled uint64 `json:"throttled"`
	Denied    uint64 `json:"denied"`
	// Agree: on every edge all four counts of the calling side are equal, and,
	// unless a service or its sidecar was killed, those of the called side too.
	Agree bool `json:"agree"`
}

// EdgeCounts counts the requests of one edge in four independent places, first
// as the caller's side saw them, then as the callee's. A connection whose bytes
// the mesh does not understand counts as one request.
type EdgeCounts struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// Protocol as the hub's graph has it: http, grpc or tcp; several if the edge
	// has seen several.
	Protocol string `json:"protocol"`
	Counts
	// Received is the callee's side: its own counter (what policy refused never
	// reached it and is added), its sidecar's, and what hub and PromQL have from
	// that sidecar.
	Received Counts `json:"received"`
}

// Counts of one side.
type Counts struct {
	Services uint64 `json:"services"`
	Sidecars uint64 `json:"sidecars"`
	Hub      uint64 `json:"hub"`
	PromQL   uint64 `json:"promql"`
}

func (c Counts) equal() bool {
	return c.Services == c.Sidecars && c.Sidecars == c.Hub && c.Hub == c.PromQL
}

// Lookups counts the request IDs that were looked up.
type Lookups struct {
	Asked uint64 `json:"asked"`
	Found uint64 `json:"found"`
}

// edges of Bookinfo by service.
var edges = [][2]string{{"loadgen", "productpage"}, {"productpage", "details"}, {"productpage", "reviews"}, {"reviews", "ratings"}}

const (
	settleWithin = 15 * time.Second
	settleEvery  = 250 * time.Millisecond
)

// settle collects until all counts agree, or until time is up: telemetry is a
// fraction of a second behind, and a restarted hub reads its log first.
func settle(ctx context.Context, m *mesh, l *load, chaos string) (Result, error) {
	deadline := time.Now().Add(settleWithin)
	for {
		r, err := collect(ctx, m, l)
		if err == nil {
			r.Agree = agree(r.Edges, chaos)
		}
		if err == nil && r.Agree || time.Now().After(deadline) {
			return r, err
		}
		select {
		case <-time.After(settleEvery):
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

func agree(list []EdgeCounts, chaos string) bool {
	for _, e := range list {
		if !e.Counts.equal() {
			return false
		}
		// What died in between has forgotten what it had counted.
		if chaos != "service" && chaos != "sidecar" && (!e.Received.equal() || e.Received.Hub != e.Hub) {
			return false
		}
	}
	return true
}

// collect reads every counter once.
func collect(ctx context.Context, m *mesh, l *load) (Result, error) {
	r := Result{Sent: l.sent.Load(), Failed: l.failed.Load(), Lookups: Lookups{Asked: l.asked.Load(), Found: l.found.Load()}}
	services, err := serviceCounts(ctx, m, l)
	if err != nil {
		return r, err
	}
	sidecars, err := sidecarCounts(ctx, m)
	if err != nil {
		return r, err
	}
	hub, err := hubCounts(ctx, m)
	if err != nil {
		return r, err
	}
	promql, err := promqlCounts(ctx, m)
	if err != nil {
		return r, err
	}
	for _, e := range edges {
		sent, received := side{"source", e[0], e[1]}, side{"destination", e[0], e[1]}
		r.Edges = append(r.Edges, EdgeCounts{
			Source: e[0], Destination: e[1], Protocol: strings.Join(hub.protocols[e], ", "),
			Counts:   Counts{services[sent], sidecars.requests[sent], hub.totals[sent], promql[sent]},
			Received: Counts{services[received] + sidecars.refused[received], sidecars.requests[received], hub.totals[received], promql[received]},
		})
	}
	r.Throttled, err = policyCount(ctx, m, vocab.DecisionThrottle)
	if err != nil {
		return r, err
	}
	r.Denied, err = policyCount(ctx, m, vocab.DecisionDeny)
	return r, err
}

// side is one reporter of one edge.
type side struct{ reporter, source, destination string }

// serviceCounts asks the services themselves, past the mesh.
func serviceCounts(ctx context.Context, m *mesh, l *load) (map[side]uint64, error) {
	out := map[side]uint64{{"source", "loadgen", "productpage"}: l.sent.Load()}
	for _, s := range m.services {
		var c struct {
			Received uint64 `json:"received"`
			Sent     map[string]struct {
				Requests uint64 `json:"requests"`
			} `json:"sent"`
		}
		if err := scrape.JSON(ctx, s.direct()+"/stats/counts", &c); err != nil {
			return nil, fmt.Errorf("counters of %s: %w", s.name, err)
		}
		for destination, sent := range c.Sent {
			out[side{"source", s.name, destination}] += sent.Requests
		}
		// Bookinfo's services have one caller each.
		for _, e := range edges {
			if e[1] == s.name {
				out[side{"destination", e[0], e[1]}] += c.Received
			}
		}
	}
	return out, nil
}

// scraped are counts of the sidecars' /metrics.
type scraped struct{ requests, refused map[side]uint64 }

func sidecarCounts(ctx context.Context, m *mesh) (scraped, error) {
	out := scraped{make(map[side]uint64), make(map[side]uint64)}
	for _, admin := range m.admins() {
		page, err := scrape.Get(ctx, "http://"+admin)
		if err != nil {
			return out, err
		}
		out.add(page)
	}
	return out, nil
}

// add counts what one sidecar says.
func (s scraped) add(page scrape.Page) {
	denied := make(map[side]uint64)
	for _, metric := range slices.Concat(page[vocab.MetricRequests].GetMetric(), page[vocab.MetricTCPOpened].GetMetric()) {
		ls := scrape.Labels(metric)
		k := side{ls[vocab.LabelReporter], ls[vocab.LabelSourceCanonicalService], ls[vocab.LabelDestinationServiceName]}
		n := uint64(metric.GetCounter().GetValue())
		s.requests[k] += n
		if ls[vocab.LabelFlags] == vocab.FlagRateLimited || ls[vocab.LabelCode] == "403" || unserved(ls[vocab.LabelFlags]) {
			s.refused[k] += n
		}
		if ls[vocab.LabelProtocol] == vocab.ProtocolTCP && k.reporter == vocab.ReporterDestination {
			denied[k] = policyDenied(page)
		}
	}
	for k, n := range denied {
		s.refused[k] += n
	}
}

// policyDenied is what a sidecar's policy denied. Istio's metrics of connections
// have no status that would tell. Who is called by them in Bookinfo is called by
// one service and calls nobody, so all of it is of that edge.
func policyDenied(page scrape.Page) uint64 {
	return uint64(page.Sum(vocab.MetricPolicyChecks, map[string]string{vocab.LabelDecision: vocab.DecisionDeny}))
}

// unserved flags stand for requests that the callee's sidecar got and its
// application did not.
func unserved(flags string) bool { return flags == vocab.FlagUpstreamConnect }

// graphed is what the hub's graph says.
type graphed struct {
	totals    map[side]uint64
	protocols map[[2]string][]string // by edge, in order
}

func hubCounts(ctx context.Context, m *mesh) (graphed, error) {
	out := graphed{make(map[side]uint64), make(map[[2]string][]string)}
	var g topologyv1.Graph
	if err := scrape.JSON(ctx, m.hub.URL()+"/api/mesh/v1/graph?window=900", &g); err != nil {
		return out, err
	}
	service := make(map[string]string)
	for _, n := range g.Nodes {
		service[n.ID] = n.Service
	}
	for _, e := range g.Edges {
		between := [2]string{service[e.Source], service[e.Destination]}
		out.totals[side{"source", between[0], between[1]}] += e.SourceTotal
		out.totals[side{"destination", between[0], between[1]}] += e.DestinationTotal
		if at, known := slices.BinarySearch(out.protocols[between], e.Protocol); !known {
			out.protocols[between] = slices.Insert(out.protocols[between], at, e.Protocol)
		}
	}
	return out, nil
}

// promqlCounts asks the hub's Prometheus API.
func promqlCounts(ctx context.Context, m *mesh) (map[side]uint64, error) {
	vector, err := query(ctx, m, fmt.Sprintf(`sum by (%s, %s, %s) ({__name__=~"%s|%s"})`,
		vocab.LabelReporter, vocab.LabelSourceCanonicalService, vocab.LabelDestinationServiceName, vocab.MetricRequests, vocab.MetricTCPOpened))
	if err != nil {
		return nil, err
	}
	out := make(map[side]uint64)
	for _, s := range vector {
		out[side{s.Metric[vocab.LabelReporter], s.Metric[vocab.LabelSourceCanonicalService], s.Metric[vocab.LabelDestinationServiceName]}] += s.count()
	}
	return out, nil
}

func policyCount(ctx context.Context, m *mesh, decision string) (uint64, error) {
	vector, err := query(ctx, m, fmt.Sprintf("sum(%s{%s=%q})", vocab.MetricPolicyChecks, vocab.LabelDecision, decision))
	if err != nil || len(vector) == 0 {
		return 0, err
	}
	return vector[0].count(), nil
}

// point is one element of an instant vector.
type point struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (p point) count() uint64 {
	s, _ := p.Value[1].(string)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return uint64(f)
}

func query(ctx context.Context, m *mesh, promql string) ([]point, error) {
	var answer struct {
		Data struct {
			Result []point `json:"result"`
		} `json:"data"`
	}
	err := scrape.JSON(ctx, m.hub.URL()+"/api/v1/query?query="+url.QueryEscape(promql), &answer)
	return answer.Data.Result, err
}
