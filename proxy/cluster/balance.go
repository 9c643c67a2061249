package cluster

import (
	"math"
	"math/bits"
	"time"
)

// maxSteps bounds the search for an endpoint other than the one tried, as
// Istio's hostSelectionRetryMaxAttempts does.
const maxSteps = 5

// choose is the index of the usable endpoint that gets the request.
func (c *Cluster) choose(s *set, k Key, now int64) int {
	n := len(s.usable)
	if n == 1 {
		return 0
	}
	switch c.settings.Balancer {
	case RoundRobin:
		return c.roundRobin(s, k, now)
	case RingHash, Maglev:
		if k.HasHash {
			return consistent(s, k)
		}
		fallthrough // no key in the request: any endpoint
	case Random:
		return avoid(s, c.below(n), k.Tried)
	default:
		return c.betterOfTwo(s, k, now)
	}
}

// below is a random index. Multiplying the high bits is Lemire's method
// without its correction, whose bias of n/2^64 nobody can see.
func (c *Cluster) below(n int) int {
	high, _ := bits.Mul64(c.random(), uint64(n))
	return int(high)
}

// avoid moves on to the next endpoint if i was just tried.
func avoid(s *set, i int, tried *Endpoint) int {
	if tried != nil && s.usable[i].host == tried.host {
		return (i + 1) % len(s.usable)
	}
	return i
}

// roundRobin takes turns. One that warms up lets most of its turns pass; if all
// do so in a round, the first has it.
func (c *Cluster) roundRobin(s *set, k Key, now int64) int {
	n := uint64(len(s.usable))
	first := -1
	for range n {
		i := avoid(s, int((c.next.Add(1)-1)%n), k.Tried)
		if !s.warm || c.accepts(s.usable[i].host, now) {
			return i
		}
		if first < 0 {
			first = i
		}
	}
	return first
}

func (c *Cluster) accepts(h *host, now int64) bool {
	share := c.settings.Warmup.share(h.joined, now)
	return share >= 1 || c.share() < share
}

// share of a full endpoint's requests, above 0 to 1, after Envoy's slow start.
func (w Warmup) share(joined, now int64) float64 {
	if w.Duration == 0 || joined == never || now-joined >= int64(w.Duration) {
		return 1
	}
	least, aggression := w.MinimumPercent/100, w.Aggression
	if least == 0 {
		least = 0.1
	}
	if aggression == 0 {
		aggression = 1
	}
	passed := float64(max(now-joined, int64(time.Second))) / float64(w.Duration)
	return min(1, max(least, math.Pow(passed, 1/aggression)))
}

// betterOfTwo draws two different endpoints, neither of them the one tried if
// there are enough, and takes the one with the lower load. Where only their
// latencies differ it does so mostly: with half the latency in four cases of
// five, with a tenth in 99 of 100. Always would mean that of two versions, of which
// one takes a millisecond longer, that one has no request as long as there are few.
func (c *Cluster) betterOfTwo(s *set, k Key, now int64) int {
	n := len(s.usable)
	a := c.below(n)
	b := c.below(n - 1)
	if b >= a {
		b++
	}
	if k.Tried != nil {
		if s.usable[a].host == k.Tried.host {
			return b
		}
		if s.usable[b].host == k.Tried.host {
			return a
		}
	}
	la, lb := c.load(s, a, now), c.load(s, b, now)
	if la != lb && s.usable[a].host.inFlight.Load() == s.usable[b].host.inFlight.Load() {
		la, lb = la*la, lb*lb
		la = c.share() * (la + lb)
	}
	if lb < la {
		return b
	}
	return a
}

// share is random, from 0 to below 1.
func (c *Cluster) share() float64 { return float64(c.random()>>11) / (1 << 53) }

func (c *Cluster) load(s *set, i int, now int64) float64 {
	h := s.usable[i].host
	load := float64(h.inFlight.Load())
	if c.settings.Balancer == LeastRequest {
		load = h.latency.load(load, now)
	}
	if s.warm {
		// One more than Envoy's count, or an idle endpoint would have no load
		// to divide.
		load = (load + 1) / c.settings.Warmup.share(h.joined, now)
	}
	return load
}

// consistent looks up the hash. A retry moves on through the table until it
// leaves the endpoint that was tried.
func consistent(s *set, k Key) int {
	i := s.table.index(k.Hash, k.Attempt)
	for step := 1; step <= maxSteps && k.Tried != nil && s.usable[i].host == k.Tried.host; step++ {
		i = s.table.index(k.Hash, k.Attempt+step)
	}
	return i
}
