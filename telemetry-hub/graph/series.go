package graph

import (
	"cmp"
	"slices"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// NodeSeries is the recent past of a node, one point a second: of what it
// received, or of what it sent if it receives nothing. It reports false for an
// unknown node.
func (g *Graph) NodeSeries(id string, window int) (topologyv1.Series, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var inbound, outbound []*ring
	for _, e := range g.edges {
		r, _ := e.main()
		if e.destination.ID == id {
			inbound = append(inbound, r)
		}
		if e.source.ID == id {
			outbound = append(outbound, r)
		}
	}
	rings := inbound
	if len(rings) == 0 {
		rings = outbound
	}
	var sidecars []*gauges
	for _, s := range g.gauges {
		if s.node.ID == id {
			sidecars = append(sidecars, s)
		}
	}
	if len(rings) == 0 && len(sidecars) == 0 {
		return topologyv1.Series{}, false
	}
	return g.series(id, window, rings, sidecars), true
}

// EdgeSeries is the recent past of an edge.
func (g *Graph) EdgeSeries(id string, window int) (topologyv1.Series, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.edges[id]
	if e == nil {
		return topologyv1.Series{}, false
	}
	r, _ := e.main()
	return g.series(id, window, []*ring{r}, nil), true
}

func (g *Graph) series(id string, window int, rings []*ring, sidecars []*gauges) topologyv1.Series {
	window = min(max(window, 1), Seconds-2)
	end := g.o.Now().Add(-settle).Unix()
	first := end - int64(window)
	s := topologyv1.Series{ID: id, StartMillis: first * 1000, StepSeconds: 1, Responses: []topologyv1.ResponseCount{}}
	for _, list := range []*[]float64{&s.Rate, &s.Errors, &s.Denied, &s.Throttled, &s.P50, &s.P95, &s.P99, &s.InFlight, &s.CPUCores, &s.MemoryByte} {
		*list = make([]float64, window)
	}
	responses := make(map[response]uint64)
	for i := range window {
		second := first + int64(i)
		var t total
		for _, r := range rings {
			if c := r.at(second); c != nil {
				t.add(c)
				for k, n := range c.responses {
					responses[k] += n
				}
			}
		}
		v := t.signals(float64(t.counts.requests))
		s.Rate[i], s.Errors[i], s.Denied[i], s.Throttled[i] = v.Rate, float64(v.Errors), float64(v.Denied), float64(v.Throttled)
		s.P50[i], s.P95[i], s.P99[i] = v.P50, v.P95, v.P99
		for _, one := range sidecars {
			if c := one.at(second); c != nil {
				s.InFlight[i] += float64(c.inFlight)
				s.CPUCores[i] += c.cpu
				s.MemoryByte[i] += float64(c.memory)
			}
		}
	}
	for k, n := range responses {
		s.Responses = append(s.Responses, topologyv1.ResponseCount{Code: k.code, Flags: k.flags, Verdict: k.verdict, Requests: n})
	}
	slices.SortFunc(s.Responses, func(a, b topologyv1.ResponseCount) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Flags, b.Flags))
	})
	return s
}

// at is the sidecar's state in one second. A sidecar reports at least once a
// second, but seconds and reports drift: the second before serves as well.
func (s *gauges) at(second int64) *gaugeCell {
	for _, t := range []int64{second, second - 1} {
		if c := &s.seconds[t%Seconds]; c.second == t && t > 0 {
			return c
		}
	}
	return nil
}

// Totals are the requests of every edge since the data begins.
func (g *Graph) Totals() map[string][2]uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make(map[string][2]uint64, len(g.edges))
	for id, e := range g.edges {
		out[id] = [2]uint64{e.sourceTotal, e.desTotal}
	}
	return out
}

// Edges counts the edges of the graph that had traffic in the ring's time.
func (g *Graph) Edges() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	n := 0
	for _, e := range g.edges {
		if g.o.Now().Sub(time.Unix(0, e.lastSeen)) <= forgetAfter {
			n++
		}
	}
	return n
}
