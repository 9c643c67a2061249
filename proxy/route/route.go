// Package route knows which service a host name means.
package route

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	"github.com/telemesh/telemesh/proxy/cluster"
	"github.com/telemesh/telemesh/proxy/identity"
)

// Table maps host names to clusters. Safe for concurrent use; its map is
// replaced whole, its clusters stay as long as their services.
type Table struct {
	namespace string
	settings  map[string]cluster.Settings // by fully qualified host
	current   atomic.Pointer[map[string]*cluster.Cluster]
}

// NewTable returns an empty table for a sidecar in namespace. A service whose
// fully qualified host has no settings gets the mesh's default.
func NewTable(namespace string, settings map[string]cluster.Settings) *Table {
	t := &Table{namespace: namespace, settings: settings}
	t.current.Store(&map[string]*cluster.Cluster{})
	return t
}

// Set replaces the table's content. It must not be called concurrently with
// itself.
func (t *Table) Set(services []*discoveryv1.Service) {
	known := *t.current.Load()
	byHost := make(map[string]*cluster.Cluster)
	for _, s := range services {
		c := known[strings.ToLower(s.GetHost())]
		if c == nil || c.Name != s.GetName() || c.Namespace != s.GetNamespace() {
			c = cluster.New(s.GetName(), s.GetNamespace(), s.GetHost(), t.settingsOf(s.GetHost()))
		}
		c.SetEndpoints(hosts(s))
		for _, name := range t.names(c) {
			byHost[strings.ToLower(name)] = c
		}
	}
	t.current.Store(&byHost)
}

func (t *Table) settingsOf(host string) cluster.Settings {
	if s, ok := t.settings[strings.ToLower(host)]; ok {
		return s
	}
	return cluster.MeshDefault()
}

func hosts(s *discoveryv1.Service) []cluster.Host {
	out := make([]cluster.Host, 0, len(s.GetEndpoints()))
	for _, e := range s.GetEndpoints() {
		out = append(out, cluster.Host{
			Address: e.GetAddress(), Healthy: e.GetHealthy(),
			Peer: identity.Peer{
				Cluster: e.GetCluster(), Namespace: s.GetNamespace(), Workload: e.GetWorkload(),
				Service: s.GetName(), Version: e.GetVersion(), Instance: e.GetInstance(),
			},
		})
	}
	return out
}

// names are the spellings under which callers may ask for a cluster: those of
// Kubernetes DNS, the bare name only within the caller's own namespace.
func (t *Table) names(c *cluster.Cluster) []string {
	qualified := c.Name + "." + c.Namespace
	names := []string{qualified, qualified + ".svc", c.Host}
	if c.Namespace == t.namespace {
		names = append(names, c.Name)
	}
	return names
}

// maxName is the longest DNS name in text; no service has a longer one.
const maxName = 255

// Lookup finds the cluster of a host, with or without a port, in any case.
// The port is not compared: a service has one port in this version. It does
// not allocate.
func (t *Table) Lookup(host string) (*cluster.Cluster, bool) {
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
	c, ok := (*t.current.Load())[string(lower[:len(host)])]
	return c, ok
}

// Clusters lists every cluster once, as it stands now, by host.
func (t *Table) Clusters() []cluster.Status {
	list := []cluster.Status{}
	for name, c := range *t.current.Load() {
		if name == strings.ToLower(c.Host) {
			list = append(list, c.Status())
		}
	}
	slices.SortFunc(list, func(a, b cluster.Status) int { return cmp.Compare(a.Host, b.Host) })
	return list
}
