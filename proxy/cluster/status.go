package cluster

import (
	"math"
	"time"
)

// Status is a cluster as the admin port shows it.
type Status struct {
	Name      string
	Namespace string
	Host      string
	Balancer  string
	// Ejections so far; overflows of requests, retries, connections and waiting
	// requests.
	Ejections           uint64
	RequestOverflows    uint64
	RetryOverflows      uint64
	ConnectionOverflows uint64
	PendingOverflows    uint64
	Endpoints           []EndpointStatus
}

// EndpointStatus is one endpoint as the admin port shows it.
type EndpointStatus struct {
	Address  string
	Workload string
	Version  string
	Instance string
	Healthy  bool // as discovery says
	Ejected  bool
	// EjectedFor is how long it still is, before the sweep after that.
	EjectedFor string `json:",omitempty"`
	InFlight   int64
	// LatencyMS is the peak-sensitive average, 0 if nothing was measured.
	LatencyMS float64
}

// Status is the cluster as it stands now.
func (c *Cluster) Status() Status {
	now := c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweepLocked(now)
	out := Status{
		Name: c.Name, Namespace: c.Namespace, Host: c.Host, Balancer: c.settings.Balancer.String(),
		Ejections: c.ejections.Load(), RequestOverflows: c.requests.Overflows(), RetryOverflows: c.retries.Overflows(),
		ConnectionOverflows: c.limits.Connections.Overflows(), PendingOverflows: c.limits.Pending.Overflows(),
		Endpoints: []EndpointStatus{},
	}
	for _, m := range c.current.Load().all {
		e := EndpointStatus{
			Address: m.first.Address, Workload: m.first.Peer.Workload, Version: m.first.Peer.Version, Instance: m.first.Peer.Instance,
			Healthy: m.healthy, Ejected: m.host.ejected, InFlight: m.host.inFlight.Load(),
			LatencyMS: math.Round(m.host.latency.value(now)*1000) / 1000,
		}
		if e.Ejected {
			left := m.host.ejectedAt + int64(c.settings.Outlier.ejection(m.host.inARow)) - now
			e.EjectedFor = max(0, time.Duration(left)).Round(time.Millisecond).String()
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}
