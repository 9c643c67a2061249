// Package route knows which sidecars serve which service and picks one.
package route

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

// Endpoint is one sidecar of a service.
type Endpoint struct {
	Address string // host:port of its inbound listener
	Peer    identity.Peer
	Healthy bool

	inFlight *atomic.Int64
}

// Done implements exchange.Endpoint: it ends the use of an endpoint that Pick
// returned.
func (e *Endpoint) Done(exchange.Outcome) {
	if e.inFlight != nil {
		e.inFlight.Add(-1)
	}
}

// Cluster is a service and its endpoints. Immutable.
type Cluster struct {
	Name      string // short name
	Namespace string
	Host      string // fully qualified
	Endpoints []Endpoint

	// Peer is the service as an edge's end while no endpoint is picked.
	Peer  *identity.Peer `json:"-"`
	Route string         `json:"-"` // its name in records
}

// Table maps host names to clusters. Safe for concurrent use; replaced whole.
type Table struct {
	namespace string
	cluster   string
	current   atomic.Pointer[map[string]*Cluster]
	loads     map[string]*atomic.Int64 // by address; only Set touches it
}

// NewTable returns an empty table for a sidecar in namespace of cluster.
func NewTable(namespace, cluster string) *Table {
	t := &Table{namespace: namespace, cluster: cluster, loads: make(map[string]*atomic.Int64)}
	t.current.Store(&map[string]*Cluster{})
	return t
}

// Set replaces the table's content. It must not be called concurrently with
// itself.
func (t *Table) Set(services []*discoveryv1.Service) {
	byHost := make(map[string]*Cluster)
	loads := make(map[string]*atomic.Int64)
	for _, s := range services {
		c := &Cluster{Name: s.GetName(), Namespace: s.GetNamespace(), Host: s.GetHost(), Route: "outbound|" + s.GetHost()}
		c.Peer = &identity.Peer{Service: c.Name, Namespace: c.Namespace, Cluster: t.cluster, Workload: vocab.Unknown}
		for _, e := range s.GetEndpoints() {
			load := t.loads[e.GetAddress()]
			if load == nil {
				load = new(atomic.Int64)
			}
			loads[e.GetAddress()] = load
			c.Endpoints = append(c.Endpoints, Endpoint{
				Address: e.GetAddress(), Healthy: e.GetHealthy(), inFlight: load,
				Peer: identity.Peer{
					Cluster: e.GetCluster(), Namespace: s.GetNamespace(), Workload: e.GetWorkload(),
					Service: s.GetName(), Version: e.GetVersion(), Instance: e.GetInstance(),
				},
			})
		}
		for _, name := range t.names(c) {
			byHost[name] = c
		}
	}
	t.loads = loads
	t.current.Store(&byHost)
}

// names are the spellings under which callers may ask for a cluster: those of
// Kubernetes DNS, the bare name only within the caller's own namespace.
func (t *Table) names(c *Cluster) []string {
	qualified := c.Name + "." + c.Namespace
	names := []string{qualified, qualified + ".svc", c.Host}
	if c.Namespace == t.namespace {
		names = append(names, c.Name)
	}
	return names
}

// Lookup finds the cluster of a host, with or without a port, in any case.
// The port is not compared: a service has one port in this version.
func (t *Table) Lookup(host string) (*Cluster, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c, ok := (*t.current.Load())[strings.TrimSuffix(strings.ToLower(host), ".")]
	return c, ok
}

// Clusters lists every cluster once, in no order.
func (t *Table) Clusters() []*Cluster {
	var list []*Cluster
	for name, c := range *t.current.Load() {
		if name == c.Host {
			list = append(list, c)
		}
	}
	return list
}

// Pick chooses between two random endpoints the one with fewer requests of
// this sidecar in flight (power of two choices). Endpoints that say their
// application is unreachable are used only when no other is left. The caller
// must call Done on the result; nil means that the cluster has no endpoint.
func (c *Cluster) Pick() *Endpoint {
	candidates := make([]int, 0, 8)
	for i := range c.Endpoints {
		if c.Endpoints[i].Healthy {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		for i := range c.Endpoints {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	best := &c.Endpoints[candidates[rand.IntN(len(candidates))]]
	if other := &c.Endpoints[candidates[rand.IntN(len(candidates))]]; other.inFlight.Load() < best.inFlight.Load() {
		best = other
	}
	best.inFlight.Add(1)
	return best
}
