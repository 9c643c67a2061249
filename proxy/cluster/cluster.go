// Package cluster is the endpoints of one service: which of them gets a
// request, which is left out for a while, what is tried again, and how much may
// be under way. It decides from what it sees itself and asks nobody.
//
// The way of a request: Key, Pick, (an engine forwards), Done, and AllowRetry
// with another Pick if the attempt failed.
package cluster

import (
	"cmp"
	"crypto/tls"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Pick's errors. The answer to both is 503.
var (
	// ErrNoHealthy: no endpoint is known, or all are ejected. Flag UH.
	ErrNoHealthy = errors.New("no healthy upstream")
	// ErrOverflow: maxRequests are under way. Flag UO.
	ErrOverflow = errors.New("upstream overflow")
)

// Host is an endpoint as discovery knows it.
type Host struct {
	Address string // host:port of the inbound listener of its sidecar
	Peer    identity.Peer
	Healthy bool // its application answers
	// TLS originates TLS to it; nil for plain text. The same pointer as long as
	// it means the same: connections are kept by it.
	TLS *tls.Config
	// Weight is its share of a hash ring or table beside the others; 0 means 1.
	// The other algorithms do not look at it.
	Weight uint32
}

// Key is what Pick may know of the request.
type Key struct {
	Hash    uint64
	HasHash bool
	// Attempt counts from 0: all of a request's attempts have one key but for
	// this and Tried, which is the endpoint of the attempt before, which
	// is avoided if there is another.
	Attempt int
	Tried   *Endpoint
}

// Endpoint is one endpoint as one version of discovery described it; immutable.
// Pick lends it out, and Done must be called once for each time that it did.
type Endpoint struct {
	Address string
	// Peer stays the same pointer as long as what it says does.
	Peer    *identity.Peer
	TLS     *tls.Config // nil for plain text
	host    *host
	cluster *Cluster
	retry   bool
}

// Cluster is the service that the endpoint belongs to.
func (e *Endpoint) Cluster() *Cluster { return e.cluster }

// set is the endpoints in force, immutable.
type set struct {
	all []member
	// usable are candidates of a pick: what discovery calls healthy, or all if
	// it calls none so, without those ejected.
	usable []member
	warm   bool // one of usable may be warming up
	table  table
}

// member is an endpoint's two views: first attempts and retries, so that Done
// knows which it ends without an allocation.
type member struct {
	first, again *Endpoint
	host         *host
	healthy      bool
	weight       uint32
}

// table is a consistent hash of the usable endpoints.
type table interface {
	// index finds the usable endpoint of a hash on its n-th attempt.
	index(hash uint64, attempt int) int
}

// Cluster is the endpoints of one service. Safe for concurrent use.
type Cluster struct {
	// Name and Namespace of the service; Host is its fully qualified name.
	Name, Namespace, Host string

	settings Settings
	timeouts exchange.Timeouts
	limits   exchange.Limits
	requests exchange.Gate
	retries  exchange.Gate
	budget   budget
	clock    func() int64  // monotonic nanoseconds
	random   func() uint64 // uniform

	current   atomic.Pointer[set]
	next      atomic.Uint64 // round robin
	nextSweep atomic.Int64  // of clock; never while nothing is wrong
	ejections atomic.Uint64

	mu     sync.Mutex // guards the replacement of current, and ejection
	epoch  int64      // of clock, when the sweeps began
	seeded bool       // endpoints were set once: who comes now warms up
}

// never is later than any time.
const never = math.MaxInt64

// New returns a cluster without endpoints.
func New(name, namespace, host string, s Settings) *Cluster {
	return newCluster(name, namespace, host, s, netio.Now, rand.Uint64)
}

func newCluster(name, namespace, host string, s Settings, clock func() int64, random func() uint64) *Cluster {
	c := &Cluster{Name: name, Namespace: namespace, Host: host, settings: s, timeouts: s.Timeouts(), clock: clock, random: random}
	c.requests.Limit, c.retries.Limit = s.Pool.MaxRequests, s.Pool.MaxRetries
	c.limits.Connections.Limit, c.limits.Pending.Limit = s.Pool.MaxConnections, s.Pool.MaxPending
	c.limits.PerConnection, c.limits.Streams = s.Pool.MaxPerConnection, s.Pool.MaxStreams
	c.limits.KeepIdle, c.limits.Lifetime = s.Pool.IdleTimeout, s.Pool.MaxConnectionTime
	c.epoch = clock()
	c.nextSweep.Store(never)
	c.current.Store(&set{})
	return c
}

// Timeouts of an attempt to the cluster.
func (c *Cluster) Timeouts() exchange.Timeouts { return c.timeouts }

// Limits of the cluster's connections, for the engine to keep.
func (c *Cluster) Limits() *exchange.Limits { return &c.limits }

// UpgradeHTTP2 reports whether HTTP/1 requests go to the cluster over HTTP/2.
func (c *Cluster) UpgradeHTTP2() bool { return c.settings.Pool.UpgradeHTTP2 }

// SetEndpoints replaces the endpoints. One whose address stays keeps its
// requests in flight, its latency and its ejection. Of hosts with the same
// address the first counts.
func (c *Cluster) SetEndpoints(hosts []Host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[string]*host)
	for _, m := range c.current.Load().all {
		known[m.first.Address] = m.host
	}
	now := c.clock()
	all := make([]member, 0, len(hosts))
	taken := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		if taken[h.Address] {
			continue
		}
		taken[h.Address] = true
		state := known[h.Address]
		if state == nil {
			state = &host{joined: never}
			if c.seeded {
				state.joined = now
			}
		}
		all = append(all, c.member(h, state))
	}
	// In one order in every sidecar, or their hash tables would differ.
	slices.SortFunc(all, func(a, b member) int { return cmp.Compare(a.first.Address, b.first.Address) })
	c.seeded = c.seeded || len(all) > 0
	c.rebuild(all)
}

// Empty reports whether no endpoint is known at all.
func (c *Cluster) Empty() bool { return len(c.current.Load().all) == 0 }

func (c *Cluster) member(h Host, state *host) member {
	if state.peer == nil || *state.peer != h.Peer {
		state.peer = &h.Peer
	}
	first := &Endpoint{Address: h.Address, Peer: state.peer, TLS: h.TLS, host: state, cluster: c}
	again := *first
	again.retry = true
	return member{first: first, again: &again, host: state, healthy: h.Healthy, weight: max(h.Weight, 1)}
}

// rebuild puts a new set in force. The caller holds mu.
func (c *Cluster) rebuild(all []member) {
	s := &set{all: all}
	anyHealthy := false
	for _, m := range all {
		anyHealthy = anyHealthy || m.healthy
	}
	for _, m := range all {
		if (m.healthy || !anyHealthy) && !m.host.ejected {
			s.usable = append(s.usable, m)
			s.warm = s.warm || c.settings.Warmup.Duration > 0 && m.host.joined != never
		}
	}
	if len(s.usable) > 0 {
		switch c.settings.Balancer {
		case RingHash:
			s.table = newRing(s.usable, c.settings.MinimumRingSize)
		case Maglev:
			s.table = newMaglev(s.usable, c.settings.TableSize)
		}
	}
	c.current.Store(s)
}

// Pick lends an endpoint to one attempt, or says why none can be.
func (c *Cluster) Pick(k Key) (*Endpoint, error) {
	now := c.clock()
	if now >= c.nextSweep.Load() {
		c.sweep(now)
	}
	s := c.current.Load()
	if len(s.usable) == 0 {
		return nil, ErrNoHealthy
	}
	if c.requests.Limit > 0 && !c.requests.Enter() {
		return nil, ErrOverflow
	}
	m := &s.usable[c.choose(s, k, now)]
	m.host.inFlight.Add(1)
	if k.Attempt > 0 {
		return m.again, nil
	}
	c.budget.request(now)
	return m.first, nil
}

// Done implements exchange.Endpoint.
func (e *Endpoint) Done(o exchange.Outcome) {
	c := e.cluster
	e.host.inFlight.Add(-1)
	if c.requests.Limit > 0 {
		c.requests.Leave()
	}
	if e.retry {
		c.retries.Leave()
	}
	if o.Failure == exchange.Local {
		return
	}
	if c.settings.Balancer == LeastRequest {
		e.host.latency.observe(o, c.clock())
	}
	if c.settings.Outlier != nil {
		c.judge(e.host, o)
	}
}

// ticksPerSecond turns the clock into whole seconds.
const ticksPerSecond = int64(time.Second)
