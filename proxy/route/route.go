// Package route knows which service a host name means.
package route

import (
	"cmp"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/identity"
)

// Service is a cluster and its names. Immutable but for the cluster's endpoints.
type Service struct {
	*cluster.Cluster
	// Peer is the service as an edge's end while no endpoint is picked.
	Peer  *identity.Peer
	Route string // its name in records
}

// Table maps host names to services. Safe for concurrent use; its maps are
// replaced whole, a service stays as long as discovery names it.
type Table struct {
	namespace string
	cluster   string
	settings  map[string]cluster.Settings // by fully qualified host
	origin    Originator
	current   atomic.Pointer[names]
}

// names are the services as callers may call them.
type names struct {
	byHost    map[string]*Service
	byAddress map[netip.Addr]*Service
}

// Originator says how TLS is originated to an endpoint that takes mutual TLS and
// has the certificate of principal. The same principal gives the same pointer.
type Originator func(principal string) *tls.Config

// NewTable returns an empty table for a sidecar in namespace of cluster in. A
// service whose fully qualified host has no settings gets the mesh's default.
// Without an originator everything is sent in plain text.
func NewTable(namespace, in string, settings map[string]cluster.Settings, o Originator) *Table {
	t := &Table{namespace: namespace, cluster: in, settings: settings, origin: o}
	t.current.Store(&names{})
	return t
}

// Set replaces the table's content. It must not be called concurrently with
// itself.
func (t *Table) Set(services []*discoveryv1.Service) {
	known := t.current.Load().byHost
	byHost := make(map[string]*Service)
	var fullNames []string
	for _, s := range services {
		c := known[strings.ToLower(s.GetHost())]
		if c == nil || c.Name != s.GetName() || c.Namespace != s.GetNamespace() {
			c = t.service(s)
		}
		c.SetEndpoints(t.hosts(s))
		fullNames = append(fullNames, c.Host)
		for _, name := range t.names(c) {
			byHost[strings.ToLower(name)] = c
		}
	}
	byAddress := make(map[netip.Addr]*Service, len(fullNames))
	for host, address := range capture.VirtualAddresses(fullNames) {
		byAddress[address] = byHost[strings.ToLower(host)]
	}
	t.current.Store(&names{byHost, byAddress})
}

func (t *Table) service(s *discoveryv1.Service) *Service {
	return &Service{
		Cluster: cluster.New(s.GetName(), s.GetNamespace(), s.GetHost(), t.settingsOf(s.GetHost())),
		Peer:    &identity.Peer{Service: s.GetName(), Namespace: s.GetNamespace(), Cluster: t.cluster, Workload: vocab.Unknown},
		Route:   "outbound|" + s.GetHost(),
	}
}

func (t *Table) settingsOf(host string) cluster.Settings {
	if s, ok := t.settings[strings.ToLower(host)]; ok {
		return s
	}
	return cluster.MeshDefault()
}

func (t *Table) hosts(s *discoveryv1.Service) []cluster.Host {
	out := make([]cluster.Host, 0, len(s.GetEndpoints()))
	for _, e := range s.GetEndpoints() {
		h := cluster.Host{
			Address: e.GetAddress(), Healthy: e.GetHealthy(),
			Peer: identity.Peer{
				Cluster: e.GetCluster(), Namespace: s.GetNamespace(), Workload: e.GetWorkload(),
				Service: s.GetName(), Version: e.GetVersion(), Instance: e.GetInstance(),
			},
		}
		if t.origin != nil && e.GetInboundTls() != discoveryv1.InboundTLS_INBOUND_TLS_NONE {
			h.TLS, h.Peer.Principal = t.origin(e.GetPrincipal()), e.GetPrincipal()
		}
		out = append(out, h)
	}
	return out
}

// names are the spellings under which callers may ask for a cluster: those of
// Kubernetes DNS, the bare name only within the caller's own namespace.
func (t *Table) names(c *Service) []string {
	qualified := c.Name + "." + c.Namespace
	names := []string{qualified, qualified + ".svc", c.Host}
	if c.Namespace == t.namespace {
		names = append(names, c.Name)
	}
	return names
}

// maxName is the longest DNS name in text; no service has a longer one.
const maxName = 255

// Lookup finds the service of a host, with or without a port, in any case.
// The port is not compared: a service has one port in this version. It does
// not allocate.
func (t *Table) Lookup(host string) (*Service, bool) {
	if colon := strings.IndexByte(host, ':'); colon >= 0 {
		if strings.IndexByte(host[colon+1:], ':') >= 0 {
			return nil, false // an IPv6 address
		}
		host = host[:colon]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) > maxName {
		return nil, false
	}
	var lower [maxName]byte
	for i := range len(host) {
		b := host[i]
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	// The compiler knows this form of look-up and makes no string of it.
	c, ok := t.current.Load().byHost[string(lower[:len(host)])]
	return c, ok
}

// ByAddress finds the service of a virtual address.
func (t *Table) ByAddress(a netip.Addr) (*Service, bool) {
	c, ok := t.current.Load().byAddress[a.Unmap()]
	return c, ok
}

// Clusters lists every cluster once, as it stands now, by host.
func (t *Table) Clusters() []cluster.Status {
	list := []cluster.Status{}
	for name, c := range t.current.Load().byHost {
		if name == strings.ToLower(c.Host) {
			list = append(list, c.Status())
		}
	}
	slices.SortFunc(list, func(a, b cluster.Status) int { return cmp.Compare(a.Host, b.Host) })
	return list
}
