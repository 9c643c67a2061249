package cluster

import (
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// Settings say how a service's endpoints are used: the trafficPolicy of Istio's
// DestinationRule. The zero value has Istio's defaults; MeshDefault is what the
// mesh uses for a service without settings.
type Settings struct {
	Balancer Balancer
	// HashKey is what RingHash and Maglev hash; without one they are Random.
	HashKey HashKey
	// MinimumRingSize of RingHash; 0 means 1024. Envoy's maximum is 8 Mi.
	MinimumRingSize uint64
	// TableSize of Maglev, a prime; 0 means 65537.
	TableSize uint64
	Warmup    Warmup
	Pool      Pool
	// Outlier ejects endpoints that fail; nil means that none is ejected.
	Outlier *Outlier
	// Retry says what is tried again; nil means Istio's default.
	Retry *Retry
}

// MeshDefault is in force where nothing else is set: endpoints that fail five
// times in a row are left out for 30 s and longer each time, but never more than
// half of them, so a service's only endpoint is always tried.
func MeshDefault() Settings {
	return Settings{
		Pool: Pool{ConnectTimeout: time.Second},
		Outlier: &Outlier{
			Consecutive5xx: 5, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxPercent: 50, KeepFirst: true,
		},
	}
}

// Balancer is an algorithm that picks endpoints.
type Balancer uint8

// The algorithms. LeastRequest takes the better of two random endpoints: the one
// with the lower product of recent peak latency and requests in flight.
// LeastInFlight compares requests in flight only, as Envoy does.
const (
	LeastRequest Balancer = iota
	LeastInFlight
	RoundRobin
	Random
	RingHash
	Maglev
)

func (b Balancer) String() string {
	return [...]string{"LEAST_REQUEST", "LEAST_IN_FLIGHT", "ROUND_ROBIN", "RANDOM", "RING_HASH", "MAGLEV"}[b]
}

// HashKey names the part of a request that is hashed. At most one of Header,
// Cookie, SourceIP and QueryParameter is set.
type HashKey struct {
	Header         string
	Cookie         string // its name
	SourceIP       bool
	QueryParameter string

	// Generate makes a cookie where none came, valid for TTL; 0 is as long as
	// the browser's session.
	Generate bool
	TTL      time.Duration
	Path     string
}

// Warmup lets an endpoint that joined take its share of requests slowly.
// RoundRobin and the two least-request algorithms know it.
type Warmup struct {
	Duration time.Duration // 0 means none
	// MinimumPercent of the full share at the beginning; 0 means 10.
	MinimumPercent float64
	// Aggression bends the rise: 1 is a straight line, more rises faster at
	// first. 0 means 1.
	Aggression float64
}

// Pool bounds connections and requests. In all of it 0 means the default, which
// is no bound.
type Pool struct {
	MaxConnections   int64
	MaxPending       int64 // http1MaxPendingRequests
	MaxRequests      int64 // http2MaxRequests; in force for every HTTP version
	MaxRetries       int64 // in flight at once
	MaxPerConnection int64 // maxRequestsPerConnection
	MaxStreams       int64 // maxConcurrentStreams
	ConnectTimeout   time.Duration
	// IdleTimeout is how long an unused connection is kept. Its default is not
	// Istio's hour but the engine's, which is below what servers have.
	IdleTimeout       time.Duration
	MaxConnectionTime time.Duration // maxConnectionDuration
	// UpgradeHTTP2 has HTTP/1 requests go to the endpoints over HTTP/2
	// (h2UpgradePolicy: UPGRADE).
	UpgradeHTTP2 bool
}

// istioConnectTimeout is Istio's default.
const istioConnectTimeout = 10 * time.Second

// Outlier says when an endpoint is left out for a while. Failures in a row act
// at once; an endpoint comes back at the first sweep after its time.
type Outlier struct {
	Consecutive5xx     int // 0 means off
	ConsecutiveGateway int // 502, 503 and 504; 0 means off
	// SplitLocal counts connect failures, resets and timeouts apart, towards
	// ConsecutiveLocal, and not as 5xx.
	SplitLocal       bool
	ConsecutiveLocal int
	// Interval between two sweeps.
	Interval time.Duration
	// BaseEjection is multiplied by the number of ejections in a row, to at
	// most 300 s (or BaseEjection if that is more).
	BaseEjection time.Duration
	// MaxPercent of the endpoints may be ejected at a time. The first one is
	// ejected whatever the percentage, as Envoy does, unless KeepFirst is set.
	MaxPercent int
	KeepFirst  bool
}

// IstioOutlier is what an empty outlierDetection block means.
func IstioOutlier() Outlier {
	return Outlier{Consecutive5xx: 5, ConsecutiveLocal: 5, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxPercent: 10}
}

// longestEjection is Envoy's max_ejection_time.
const longestEjection = 300 * time.Second

// ejection is the time out at the n-th ejection in a row.
func (o *Outlier) ejection(n int) time.Duration {
	longest := max(longestEjection, o.BaseEjection)
	if time.Duration(n) > longest/max(o.BaseEjection, 1) {
		return longest
	}
	return time.Duration(n) * o.BaseEjection
}

// Timeouts of an attempt, as far as the settings have them.
func (s *Settings) Timeouts() exchange.Timeouts {
	t := exchange.Timeouts{Connect: istioConnectTimeout, PerTry: s.retry().PerTry}
	if s.Pool.ConnectTimeout > 0 {
		t.Connect = s.Pool.ConnectTimeout
	}
	return t
}

func (s *Settings) retry() *Retry {
	if s.Retry == nil {
		return &istioRetry
	}
	return s.Retry
}
