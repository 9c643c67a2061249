package graph

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/telemetry-hub/layout"
)

const (
	// settle is how long sidecars take to report a finished second: it is left
	// out of rates until then, or every rate would be a little low.
	settle = time.Second
	// forgetAfter is when an edge without traffic leaves the picture.
	forgetAfter = Seconds * time.Second
	// disagreement is the share by which two reporters may differ.
	disagreement = 0.01
)

// Snapshot is the graph over the newest window of whole seconds, at most
// Seconds.
func (g *Graph) Snapshot(window int) topologyv1.Graph {
	window = min(max(window, 1), Seconds)
	now := g.o.Now()
	end := now.Add(-settle).Unix()
	b := builder{now: now, first: end - int64(window), end: end, nodes: make(map[string]*node)}

	for _, p := range g.o.Registry.Presence() { // before the lock: it has its own
		n := b.node(p.Node)
		n.Instances = append(n.Instances, p.Instance)
	}
	g.mu.RLock()
	// In order, since rates are added up and floating point is not associative:
	// an unchanged graph must give an unchanged snapshot.
	for _, id := range slices.Sorted(maps.Keys(g.edges)) {
		b.edge(g.edges[id])
	}
	for _, s := range g.gauges {
		b.saturation(s)
	}
	newest := g.newest
	g.mu.RUnlock()
	return b.graph(g, window, newest)
}

// node is a node under construction.
type node struct {
	topologyv1.Node
	inbound, outbound         total
	inboundRate, outboundRate float64
}

type builder struct {
	now        time.Time
	first, end int64 // seconds of the window
	nodes      map[string]*node
	edges      []topologyv1.Edge
	mesh       total
	rate       float64
}

func (b *builder) node(r Ref) *node {
	n := b.nodes[r.ID]
	if n == nil {
		n = &node{Node: topologyv1.Node{
			ID: r.ID, Kind: r.Kind, Cluster: r.Cluster, Namespace: r.Namespace, Workload: r.Workload, Service: r.Service, Version: r.Version,
			Instances: []topologyv1.Instance{},
		}}
		b.nodes[r.ID] = n
	}
	return n
}

// span is the part of the window in which an edge existed: an edge that is five
// seconds old has a rate over five seconds and not over sixty.
func (b *builder) span(firstSeen int64) float64 {
	return math.Max(1, float64(b.end-max(b.first, firstSeen/int64(time.Second))))
}

func (b *builder) edge(e *edge) {
	if b.now.Sub(time.Unix(0, e.lastSeen)) > forgetAfter {
		return
	}
	ring, reporter := e.main()
	var t total
	end := b.end
	if e.firstSeen/int64(time.Second) >= b.end-1 {
		// A newborn edge shows what there is: "idle" would be plainly wrong.
		end = b.now.Unix() + 1
	}
	t.over(ring, b.first, end)
	signals := t.signals(float64(t.counts.requests) / b.span(e.firstSeen))
	health, reason := edgeHealth(signals)
	b.edges = append(b.edges, topologyv1.Edge{
		ID: e.id, Source: e.source.ID, Destination: e.destination.ID, DestinationService: e.service, Protocol: e.protocol,
		Security: cmp.Or(e.security, "unknown"), Health: health, HealthReason: reason, Signals: signals, Reporter: reporter,
		SourceTotal: e.sourceTotal, DestinationTotal: e.desTotal, Disagreement: b.disagree(e),
		FirstSeenMillis: e.firstSeen / 1e6, LastSeenMillis: e.lastSeen / 1e6,
	})
	source, destination := b.node(e.source), b.node(e.destination)
	// Edges differ in age, so a node's rate is the sum of theirs.
	source.outbound.merge(&t)
	source.outboundRate += signals.Rate
	destination.inbound.merge(&t)
	destination.inboundRate += signals.Rate
	for _, n := range []*node{source, destination} {
		n.LastSeenMillis = max(n.LastSeenMillis, e.lastSeen/1e6)
		if first := e.firstSeen / 1e6; n.FirstSeenMillis == 0 || first > 0 && first < n.FirstSeenMillis {
			n.FirstSeenMillis = first
		}
	}
	b.mesh.merge(&t)
	b.rate += signals.Rate
}

func (t *total) merge(o *total) {
	t.counts.add(o.counts)
	t.latency.Merge(&o.latency)
}

// disagree compares the two reporters over the window but for its newest
// seconds, in which one may be ahead of the other.
func (b *builder) disagree(e *edge) bool {
	if e.bySource == nil || e.byDest == nil {
		return false
	}
	var s, d total
	s.over(e.bySource, b.first, b.end-3)
	d.over(e.byDest, b.first, b.end-3)
	n, m := float64(s.counts.requests), float64(d.counts.requests)
	// Two sidecars cut their batches at different moments, a quarter of a second
	// apart at most; at either end of the window that much may fall to this side
	// or that.
	edges := 2 + 0.5*math.Max(n, m)/b.span(e.firstSeen)
	return math.Abs(n-m) > math.Max(disagreement*math.Max(n, m), edges)
}

func (b *builder) saturation(s *gauges) {
	n := b.nodes[s.node.ID]
	if n == nil || b.now.Sub(time.Unix(0, s.lastTime)) > 10*time.Second {
		return // not heard of: its last values are not its values
	}
	sum := &n.Saturation
	sum.InFlight += s.last.GetInboundInFlight() + s.last.GetOutboundInFlight()
	sum.PoolActive += s.last.GetPoolActive()
	sum.PoolIdle += s.last.GetPoolIdle()
	sum.PoolPending += s.last.GetPoolPending()
	sum.CPUCores += s.cpu
	sum.MemoryBytes += s.last.GetMemoryBytes()
	// The comparison is false for NaN, which JSON cannot say.
	if ratio := s.last.GetReportQueueRatio(); ratio > sum.ReportQueue {
		sum.ReportQueue = math.Min(ratio, 1)
	}
}

func (b *builder) graph(g *Graph, window int, newest int64) topologyv1.Graph {
	out := topologyv1.Graph{
		SchemaVersion: topologyv1.SchemaVersion, TimeMillis: b.now.UnixMilli(), WindowSeconds: window,
		Nodes: make([]topologyv1.Node, 0, len(b.nodes)), Edges: b.edges,
	}
	if out.Edges == nil {
		out.Edges = []topologyv1.Edge{}
	}
	for _, n := range b.nodes {
		n.Inbound, n.Outbound = n.inbound.signals(n.inboundRate), n.outbound.signals(n.outboundRate)
		n.Health, n.HealthReason = nodeHealth(&n.Node)
		slices.SortFunc(n.Instances, func(x, y topologyv1.Instance) int { return cmp.Compare(x.Name, y.Name) })
		out.Nodes = append(out.Nodes, n.Node)
	}
	slices.SortFunc(out.Nodes, func(x, y topologyv1.Node) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortFunc(out.Edges, func(x, y topologyv1.Edge) int { return cmp.Compare(x.ID, y.ID) })
	place(g.o.Layout, &out)

	out.Mesh = topologyv1.Mesh{Signals: b.mesh.signals(b.rate), Records: g.o.Records(), RecordsLost: g.o.RecordsLost(), LagMillis: -1}
	for _, n := range out.Nodes {
		for _, i := range n.Instances {
			out.Mesh.Sidecars++
			if i.Connected {
				out.Mesh.SidecarsConnected++
			}
		}
	}
	if newest > 0 {
		out.Mesh.LagMillis = max(b.now.UnixMilli()-newest/1e6, 0)
	}
	return out
}

// place asks the layout for positions; it moves nothing that has one.
func place(l *layout.Layout, out *topologyv1.Graph) {
	in := layout.Graph{}
	for _, n := range out.Nodes {
		in.Nodes = append(in.Nodes, n.ID)
	}
	for _, e := range out.Edges {
		in.Edges = append(in.Edges, [2]string{e.Source, e.Destination})
	}
	at := l.Place(in)
	for i := range out.Nodes {
		p := at[out.Nodes[i].ID]
		out.Nodes[i].X, out.Nodes[i].Y = p.X, p.Y
	}
}
