// Package graph is the live service graph: nodes, edges and one-second cells of
// the last 15 minutes, fed by what sidecars count and never by pairing spans.
// Source and destination reporters are kept apart.
package graph

import (
	"strings"
	"sync"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
	"github.com/telemesh/telemesh/telemetry-hub/layout"
)

// Kinds of nodes.
const (
	KindWorkload = "workload"
	KindService  = "service"  // asked for, but no workload answered
	KindUnknown  = "unknown"  // a caller without sidecar
	KindExternal = "external" // outside the mesh
)

// Presence is what the registry knows of one sidecar.
type Presence struct {
	Node     Ref
	Instance topologyv1.Instance
}

// Registry lists the sidecars, connected or lost.
type Registry interface {
	Presence() []Presence
}

// Ref names a node.
type Ref struct {
	ID, Kind, Cluster, Namespace, Workload, Service, Version string
}

// RefOf is the node of an identity.
func RefOf(i *telemetryv1.Identity) Ref {
	r := Ref{
		Cluster: i.GetCluster(), Namespace: i.GetNamespace(), Workload: i.GetWorkload(), Service: i.GetService(), Version: i.GetVersion(),
	}
	switch {
	case r.Workload != "" && r.Workload != vocab.Unknown:
		r.Kind, r.ID = KindWorkload, r.Namespace+"/"+r.Workload
	case strings.HasSuffix(r.Service, "Cluster"): // PassthroughCluster and its kin
		r.Kind, r.ID = KindExternal, "external"
	case r.Service != "" && r.Service != vocab.Unknown:
		r.Kind, r.ID = KindService, "service/"+r.Namespace+"/"+r.Service
	default:
		r.Kind, r.ID = KindUnknown, "unknown"
	}
	return r
}

// EdgeID is the ID of an edge between two nodes for one service and protocol.
func EdgeID(source, destination, service, protocol string) string {
	return source + "→" + destination + "|" + service + "|" + protocol
}

// edge is the traffic between two nodes.
type edge struct {
	id                    string
	source, destination   Ref
	service, protocol     string
	security              string
	securityKnown         bool // by the destination
	bySource, byDest      *ring
	sourceTotal, desTotal uint64
	firstSeen, lastSeen   int64 // Unix nanoseconds
}

// main is the ring that the edge's signals come from, and who reported it.
func (e *edge) main() (*ring, string) {
	if e.bySource != nil {
		return e.bySource, "source"
	}
	return e.byDest, "destination"
}

// succeeded is how long after a process was heard an earlier one of its instance
// does not count. Later it does: a clock may run backwards between two starts.
const succeeded = 5 * time.Second

// gauges is the recent past of one sidecar's saturation.
type gauges struct {
	node     Ref
	epoch    uint64 // of the process that last is of
	last     *telemetryv1.Saturation
	lastTime int64 // Unix nanoseconds
	cpu      float64
	seconds  [Seconds]gaugeCell
}

type gaugeCell struct {
	second   int64
	inFlight uint32
	cpu      float64
	memory   uint64
}

// Options of a Graph.
type Options struct {
	Registry Registry
	Layout   *layout.Layout
	// Records and RecordsLost are the hub's own counters, for the summary.
	Records, RecordsLost func() uint64
	Now                  func() time.Time
}

// Graph is the live graph. Safe for concurrent use.
type Graph struct {
	o Options

	mu     sync.RWMutex // guards the fields below
	edges  map[string]*edge
	gauges map[string]*gauges // by sidecar
	newest int64              // time of the newest batch, Unix nanoseconds
	swept  time.Time
}

// New returns an empty graph.
func New(o Options) *Graph {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Graph{o: o, edges: make(map[string]*edge), gauges: make(map[string]*gauges)}
}

// maxAhead bounds how far a sender's clock may run ahead before its batches
// count as of now.
const maxAhead = 2 * time.Second

// Apply adds what one batch added to the counters. Batches may come in any
// order and late; what is older than the ring counts in the totals only.
func (g *Graph) Apply(b *telemetryv1.Batch, deltas []counters.Delta) {
	now := g.o.Now()
	at := b.GetTimeUnixNano()
	if at > now.Add(maxAhead).UnixNano() {
		at = now.UnixNano()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.newest = max(g.newest, at)
	for _, d := range deltas {
		g.apply(at, now, d)
	}
	g.applySaturation(at, b)
	g.sweep(now)
}

// sweep releases the cells of edges that had no traffic for as long as the ring
// lasts; their totals stay.
func (g *Graph) sweep(now time.Time) {
	if now.Sub(g.swept) < time.Minute {
		return
	}
	g.swept = now
	for _, e := range g.edges {
		if now.Sub(time.Unix(0, e.lastSeen)) <= forgetAfter {
			continue
		}
		for _, r := range []*ring{e.bySource, e.byDest} {
			if r != nil {
				*r = ring{}
			}
		}
	}
}

func (g *Graph) apply(at int64, now time.Time, d counters.Delta) {
	source, destination := RefOf(d.Edge.GetSource()), RefOf(d.Edge.GetDestination())
	id := EdgeID(source.ID, destination.ID, d.Edge.GetDestinationService(), d.Row.GetProtocol())
	e := g.edges[id]
	if e == nil {
		e = &edge{
			id: id, source: source, destination: destination, service: d.Edge.GetDestinationService(),
			protocol: d.Row.GetProtocol(), firstSeen: at,
		}
		g.edges[id] = e
	}
	e.firstSeen, e.lastSeen = min(e.firstSeen, at), max(e.lastSeen, at)
	var r **ring
	if d.Edge.GetReporter() == telemetryv1.Reporter_REPORTER_SOURCE {
		r = &e.bySource
		e.sourceTotal += d.Row.GetRequests()
	} else {
		r = &e.byDest
		e.desTotal += d.Row.GetRequests()
	}
	byDestination := d.Edge.GetReporter() != telemetryv1.Reporter_REPORTER_SOURCE
	if s := d.Edge.GetSecurity(); s != "" && s != vocab.Unknown && (byDestination || !e.securityKnown) {
		e.security, e.securityKnown = s, byDestination // the destination knows
	}
	if *r == nil {
		*r = &ring{}
	}
	if second := at / int64(time.Second); second > now.Unix()-Seconds {
		(*r).add(second, d.Row)
	}
}

func (g *Graph) applySaturation(at int64, b *telemetryv1.Batch) {
	s := b.GetSaturation()
	if s == nil || b.GetSender() == "" {
		return
	}
	known := g.gauges[b.GetSender()]
	if known == nil {
		known = &gauges{node: RefOf(b.GetNode())}
		g.gauges[b.GetSender()] = known
	}
	switch {
	case b.GetEpoch() < known.epoch && at-known.lastTime < int64(succeeded):
		return // of a process that drains beside its successor
	case b.GetEpoch() != known.epoch:
		known.epoch, known.last, known.cpu = b.GetEpoch(), nil, 0
	}
	if at <= known.lastTime {
		return
	}
	if known.last != nil && s.GetCpuNanos() >= known.last.GetCpuNanos() {
		known.cpu = float64(s.GetCpuNanos()-known.last.GetCpuNanos()) / float64(at-known.lastTime)
	}
	known.last, known.lastTime = s, at
	second := at / int64(time.Second)
	c := &known.seconds[second%Seconds]
	if c.second != second {
		*c = gaugeCell{second: second}
	}
	c.inFlight = max(c.inFlight, s.GetInboundInFlight())
	c.cpu, c.memory = known.cpu, s.GetMemoryBytes()
}

// Forget removes what the graph remembers of a sidecar's saturation.
func (g *Graph) Forget(sidecar string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.gauges, sidecar)
}

// Restore takes counts in that were exported earlier: totals without cells.
func (g *Graph) Restore(deltas []counters.Delta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range deltas {
		g.apply(0, time.Unix(1<<40, 0), d) // far older than any ring
		id := EdgeID(RefOf(d.Edge.GetSource()).ID, RefOf(d.Edge.GetDestination()).ID, d.Edge.GetDestinationService(), d.Row.GetProtocol())
		g.edges[id].firstSeen = 0
	}
}

// Heard is the last saturation of a sidecar and its time in Unix nanoseconds.
func (g *Graph) Heard(sidecar string) (*telemetryv1.Saturation, int64) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if s := g.gauges[sidecar]; s != nil {
		return s.last, s.lastTime
	}
	return nil, 0
}
