// Package recordgen makes the records of a small mesh, as its sidecars would
// report them, for tests and benchmarks of what keeps them: Bookinfo's services,
// reviews in three versions, both sides of each hop, one request in a hundred
// failing.
package recordgen

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// Options of a Mesh. The zero value is three replicas.
type Options struct {
	Seed uint64
	// Replicas of each workload; each is one sender.
	Replicas int
	// Start is the time of the first request, and Step how far apart two records
	// are.
	Start time.Time
	Step  time.Duration
}

// Mesh makes records. It is not safe for concurrent use.
type Mesh struct {
	o       Options
	random  *rand.Rand
	now     int64
	Senders []*Sender
	pods    map[string][]*Sender
	hops    [3][]hop // by version of reviews
	agents  []string
	paths   map[string][]string
}

// Sender is one sidecar with the records that it has not sent yet, and the edges
// that they name.
type Sender struct {
	Node  *telemetryv1.Identity
	Edges []*telemetryv1.Edge
	Block record.Block

	index   map[edgeKey]uint32            // of Edges
	known   map[edgeKey]*telemetryv1.Edge // all that there were
	series  map[seriesKey]*telemetryv1.Aggregate
	changed map[seriesKey]bool
}

// Known is how many edges the sender has had so far.
func (s *Sender) Known() int { return len(s.known) }

type seriesKey struct {
	edge edgeKey
	code uint32
}

type edgeKey struct {
	reporter telemetryv1.Reporter
	peer     *Sender
}

// hop is a call from one workload to another.
type hop struct {
	service, host, route  string
	sources, destinations []*Sender
}

var services = []string{"istio-ingress", "productpage", "details", "reviews", "ratings"}

// New makes a mesh without records.
func New(o Options) *Mesh {
	if o.Replicas == 0 {
		o.Replicas = 3
	}
	if o.Start.IsZero() {
		o.Start = time.Unix(1_790_000_000, 0)
	}
	m := &Mesh{o: o, random: rand.New(rand.NewPCG(o.Seed, 2)), now: o.Start.UnixNano(), pods: make(map[string][]*Sender), paths: make(map[string][]string)}
	for i := range 50 {
		m.agents = append(m.agents, fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0", 90+i, 90+i))
	}
	for _, s := range services {
		versions := 1
		if s == "reviews" {
			versions = 3
		}
		for v := range versions {
			m.addWorkload(s, fmt.Sprintf("v%d", v+1))
		}
		for i := range 1000 {
			m.paths[s] = append(m.paths[s], fmt.Sprintf("/%s/%d", s, i))
		}
	}
	for v := range m.hops {
		reviews := fmt.Sprintf("reviews-v%d", v+1)
		m.hops[v] = []hop{m.hop("istio-ingress-v1", "productpage-v1"), m.hop("productpage-v1", "details-v1"), m.hop("productpage-v1", reviews)}
		if v > 0 {
			m.hops[v] = append(m.hops[v], m.hop(reviews, "ratings-v1"))
		}
	}
	return m
}

func (m *Mesh) addWorkload(service, version string) {
	workload := service + "-" + version
	for i := range m.o.Replicas {
		s := &Sender{
			Node: &telemetryv1.Identity{
				Cluster: "cluster-1", Namespace: "default", Workload: workload, Service: service, Version: version,
				Principal: "spiffe://cluster.local/ns/default/sa/bookinfo-" + service,
				Instance:  fmt.Sprintf("%s-%08x-%05x", workload, 0x7c9d4f55, len(workload)*4099+i*65537),
			},
			index: make(map[edgeKey]uint32), known: make(map[edgeKey]*telemetryv1.Edge),
			series: make(map[seriesKey]*telemetryv1.Aggregate), changed: make(map[seriesKey]bool),
		}
		m.pods[workload] = append(m.pods[workload], s)
		m.Senders = append(m.Senders, s)
	}
}

func (m *Mesh) hop(source, destination string) hop {
	service := m.pods[destination][0].Node.GetService()
	return hop{
		service: service, host: service + ":9080",
		route: "outbound|9080||" + service + ".default.svc.cluster.local", sources: m.pods[source], destinations: m.pods[destination],
	}
}

// place is the number of an edge among those of the records that wait.
func (s *Sender) place(k edgeKey) uint32 {
	i, ok := s.index[k]
	if !ok {
		i = uint32(len(s.Edges))
		s.index[k] = i
		s.Edges = append(s.Edges, s.edge(k))
	}
	return i
}

func (s *Sender) edge(k edgeKey) *telemetryv1.Edge {
	e := s.known[k]
	if e == nil {
		source, destination := s.Node, k.peer.Node
		if k.reporter == telemetryv1.Reporter_REPORTER_DESTINATION {
			source, destination = destination, source
		}
		e = &telemetryv1.Edge{
			Reporter: k.reporter, Source: source, Destination: destination,
			DestinationService: destination.GetService() + ".default.svc.cluster.local", Security: "mutual_tls",
		}
		s.known[k] = e
	}
	return e
}

// Request adds the records of one request, six or eight, each to the sender that
// reports it, and returns the trace ID.
func (m *Mesh) Request() (trace [16]byte, records int) {
	r := m.random
	binary.LittleEndian.PutUint64(trace[:], r.Uint64())
	binary.LittleEndian.PutUint64(trace[8:], r.Uint64()|1)
	product, fails := r.IntN(1000), r.IntN(100) == 0
	c := call{m: m, trace: trace, agent: m.agents[r.IntN(50)], product: product}
	hops := m.hops[r.IntN(3)]
	for i := range hops {
		c.hop(&hops[i], len(hops)-i, fails && i == len(hops)-1)
	}
	m.now += int64(m.o.Step) * int64(2*len(hops))
	return trace, 2 * len(hops)
}

// Now is the time of the next request.
func (m *Mesh) Now() time.Time { return time.Unix(0, m.now) }

// call is a request under construction.
type call struct {
	m       *Mesh
	trace   [16]byte
	agent   string
	product int
	parent  [8]byte
}

// hop adds the two records of one hop.
func (c *call) hop(h *hop, depth int, fails bool) {
	r := c.m.random
	source, destination := h.sources[r.IntN(len(h.sources))], h.destinations[r.IntN(len(h.destinations))]
	duration := time.Duration(math.Exp(r.NormFloat64()*0.7+14) * float64(depth))
	one := record.Record{
		Start: time.Unix(0, c.m.now+r.Int64N(20_000_000)), Duration: duration, FirstByte: duration * 9 / 10, TraceID: c.trace,
		Protocol: "http", HTTPVersion: "HTTP/1.1", Method: "GET", Path: c.m.paths[h.service][c.product], Host: h.host, Route: h.route,
		Code: 200, Detail: "via_upstream", BytesIn: uint64(300 + r.IntN(400)), BytesOut: uint64(200 + r.IntN(5000)),
		Attempts: 1, Upstream: destination.Node.GetInstance() + ":9080", Verdict: "ok", UserAgent: c.agent, Sampled: c.product%10 == 0,
	}
	if fails {
		one.Code, one.Flags, one.Detail = 503, "UF,URX", "upstream_reset_before_response_started{connection_failure}"
	}
	c.add(source, edgeKey{telemetryv1.Reporter_REPORTER_SOURCE, destination}, &one)
	one.Duration = max(one.Duration-time.Duration(r.Int64N(300_000)), 0)
	c.add(destination, edgeKey{telemetryv1.Reporter_REPORTER_DESTINATION, source}, &one)
}

func (c *call) add(s *Sender, k edgeKey, one *record.Record) {
	one.Edge = s.place(k)
	one.ParentSpanID = c.parent
	binary.LittleEndian.PutUint64(one.SpanID[:], c.m.random.Uint64())
	c.parent = one.SpanID
	s.Block.Add(one)
	s.count(k, one)
}
