package lease

import (
	"math"
	"sync"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

const (
	// demandMemory smooths a sidecar's demand, in nanoseconds.
	demandMemory = 300e6
	// levelAge is how long a water level is used before it is computed again.
	levelAge = 20e6
	// holderIdle is when a silent sidecar leaves a key.
	holderIdle = 5e9
	// keyIdle is when a key with a full bucket is forgotten: it is then as if
	// it had never been seen.
	keyIdle = 10e9
	// probes are the keys looked at for idleness with every demand.
	probes = 2
)

// limit is one bucket per key, in the hub. Times are nanoseconds since the
// server began.
type limit struct {
	bucket policy.Bucket
	// rate is deeper than the policy's burst by one horizon, see key.unmet.
	rate    gcra.Rate
	perSec  float64
	horizon float64 // ns
	ttl     int64   // ns, life of a credit

	mu         sync.Mutex // guards the fields below
	keys       map[string]*key
	granted    uint64
	overflowed uint64
}

// key is one bucket and the sidecars that ask for its credits.
type key struct {
	bucket   gcra.Bucket
	holders  map[string]*holder
	level    float64 // max-min share in requests per second, or infinite
	levelAt  float64
	lastPull float64
	// unmet tells that the last pull got less than it wanted. Tokens that come
	// back while demand waits are kept for a horizon beyond the burst: else each
	// delay of a pull that is longer than the small default burst (50 ms) would
	// be capacity lost. A key without waiting demand has its burst and no more.
	unmet bool
	// outstanding is the sum over the holders, a little high between two
	// computations of the level: credits that ended are removed then.
	outstanding int64
}

// holder is one sidecar at one key.
type holder struct {
	demand      float64 // requests per second, admitted or not
	lastPull    float64
	fair        gcra.Bucket // what it got, against its fair share
	outstanding int64
	expires     float64
}

func newLimit(b policy.Bucket, horizon time.Duration) *limit {
	return &limit{
		bucket:  b,
		rate:    gcra.Rate{Interval: b.Interval(), Burst: float64(b.Burst) + float64(horizon)/b.Interval()},
		perSec:  b.PerSecond(),
		horizon: float64(horizon),
		ttl:     int64(horizon) * lifeHorizons,
		keys:    make(map[string]*key),
	}
}

// grant answers one demand.
func (l *limit) grant(now float64, sidecar string, d *policyv1.Demand) *policyv1.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &policyv1.Grant{Limit: d.GetLimit(), Key: d.GetKey(), TtlNanos: l.ttl}
	l.forgetIdle(now, probes)
	k := l.keys[d.GetKey()]
	if k == nil {
		var answer bool
		if k, answer = l.newKey(now, d, g); answer {
			return g
		}
	}
	if !k.unmet || now-k.lastPull > float64(l.ttl) {
		k.bucket = gcra.Bucket(math.Max(float64(k.bucket), now+l.horizon))
	}
	h := k.holder(sidecar, now)
	k.report(h, now, d, l.cap(k))
	if now-k.levelAt > levelAge || len(k.holders) == 1 {
		l.computeLevel(k, now)
	}
	n, retry := l.share(k, h, now, int64(d.GetWant()))
	k.unmet = n < int64(d.GetWant())
	k.bucket.Spend(l.rate, now, n)
	if fair := l.fairRate(k); fair.Burst > 0 {
		h.fair.Spend(fair, now, n)
	}
	h.outstanding += n
	k.outstanding += n
	if n > 0 {
		h.expires = now + float64(l.ttl)
	}
	l.granted += uint64(n)
	g.Credits = uint32(n)
	g.RetryAfterNanos = int64(retry)
	g.Remaining = max(int64(k.bucket.Tokens(l.rate, now)), 0)
	g.ResetNanos = int64(math.Max(k.bucket.Reset(now)-l.horizon, 0))
	g.FairRate = l.fallbackRate(k, h)
	return g
}

// newKey makes room for a key. When there is none it follows the limit's
// overflow: with answer true, g is complete.
func (l *limit) newKey(now float64, d *policyv1.Demand, g *policyv1.Grant) (k *key, answer bool) {
	name := d.GetKey()
	if len(l.keys) >= l.bucket.MaxKeys && name != OverflowKey {
		l.forgetIdle(now, 64*probes)
	}
	if len(l.keys) >= l.bucket.MaxKeys && name != OverflowKey {
		l.overflowed++
		switch l.bucket.Overflow {
		case policy.OverflowAllow:
			g.Credits = d.GetWant()
			return nil, true
		case policy.OverflowDeny:
			g.RetryAfterNanos = int64(time.Second)
			return nil, true
		}
		name = OverflowKey
	}
	if k = l.keys[name]; k == nil {
		k = &key{holders: make(map[string]*holder), level: math.Inf(1)}
		l.keys[name] = k
	}
	return k, false
}

// forgetIdle looks at n keys, in the map's random order, and forgets those
// whose bucket is full and unused: bounded work that keeps up with any rate of
// new keys.
func (l *limit) forgetIdle(now float64, n int) {
	for name, k := range l.keys {
		if n--; n < 0 {
			return
		}
		if now-k.lastPull > keyIdle && k.bucket.Reset(now) == 0 {
			delete(l.keys, name)
		}
	}
}

func (k *key) holder(sidecar string, now float64) *holder {
	k.lastPull = now
	h := k.holders[sidecar]
	if h == nil {
		h = &holder{lastPull: now}
		k.holders[sidecar] = h
		k.levelAt = math.Inf(-1)
	}
	return h
}

// cap bounds the credits outstanding of a key: what the horizon needs, and one
// for each sidecar that asks for single ones.
func (l *limit) cap(k *key) int64 {
	return int64(math.Ceil(l.perSec*l.horizon/1e9)) + int64(len(k.holders))
}

// report takes in what the sidecar says about its pocket. Credits that it holds
// from a hub before this one count as well, up to the cap.
func (k *key) report(h *holder, now float64, d *policyv1.Demand, limit int64) {
	seen := float64(d.GetAdmitted() + d.GetRefused())
	// The requests that wait for this pull are counted once they are decided.
	dt := math.Max(now-h.lastPull, 1e6)
	h.demand += (1 - math.Exp(-dt/demandMemory)) * (seen/dt*1e9 - h.demand)
	h.lastPull = now
	left := min(int64(d.GetLeft()), limit)
	k.outstanding += left - h.outstanding
	h.outstanding = left
}

// computeLevel recomputes the fair share, forgets silent sidecars and counts
// out the credits whose life ended.
func (l *limit) computeLevel(k *key, now float64) {
	demands := make([]float64, 0, len(k.holders))
	k.outstanding = 0
	for name, h := range k.holders {
		if now >= h.expires {
			h.outstanding = 0
		}
		if now-h.lastPull > holderIdle && h.outstanding == 0 {
			delete(k.holders, name)
			continue
		}
		k.outstanding += h.outstanding
		demand := h.demand
		if silent := now - h.lastPull - demandMemory; silent > 0 {
			demand *= math.Exp(-silent / demandMemory)
		}
		demands = append(demands, demand)
	}
	k.level = fairLevel(demands, l.perSec)
	k.levelAt = now
}

// fairRate is a holder's bucket at its fair share; its burst is zero while
// there is enough for all.
func (l *limit) fairRate(k *key) gcra.Rate {
	if math.IsInf(k.level, 1) || k.level <= 0 {
		return gcra.Rate{}
	}
	return gcra.Rate{Interval: 1e9 / k.level, Burst: math.Max(1, k.level*l.horizon/1e9)}
}

// share is how many of the wanted credits the holder gets, and when asking
// again makes sense if that is not all.
//
// When demand exceeds the rate, a holder gets no more than its fair share of
// it. Tokens above half of the bucket are free for all, so that nothing is lost
// when demands were estimated too high.
func (l *limit) share(k *key, h *holder, now float64, want int64) (n int64, retry float64) {
	tokens := int64(k.bucket.Tokens(l.rate, now) + 1e-6)
	n = max(min(want, tokens), 0)
	reserve := math.Floor(float64(l.bucket.Burst) / 2)
	fair := l.fairRate(k)
	if fair.Burst > 0 {
		own := int64(h.fair.Tokens(fair, now) + 1e-6)
		n = max(min(n, max(own, tokens-int64(reserve))), 0)
	}
	room := l.cap(k) - k.outstanding
	capped := n > room
	n = max(min(n, room), 0)
	if n >= want {
		return n, 0
	}
	// Asking for single tokens would turn a big limit into a flood of pulls.
	batch := math.Max(1, math.Floor(math.Min(float64(l.bucket.Burst)/4, float64(want)/4)))
	after := k.bucket
	after.Spend(l.rate, now, n)
	retry = after.Until(l.rate, now, batch)
	if fair.Burst > 0 {
		own := h.fair
		own.Spend(fair, now, n)
		mine := own.Until(fair, now, math.Min(batch, fair.Burst))
		retry = math.Max(retry, math.Min(mine, after.Until(l.rate, now, reserve+1)))
	}
	if capped {
		retry = math.Max(retry, l.horizon/10)
	}
	return n, math.Max(retry, 1e5)
}

// fallbackRate is what the sidecar may admit alone if the hub goes away now.
func (l *limit) fallbackRate(k *key, h *holder) float64 {
	equal := l.perSec / float64(len(k.holders))
	return math.Min(math.Max(h.demand*1.3, equal*0.1), math.Min(k.level, l.perSec))
}

func (l *limit) stats(now float64) LimitStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := LimitStats{Limit: l.bucket.Name, Granted: l.granted, Overflowed: l.overflowed, Keys: len(l.keys)}
	for _, k := range l.keys {
		for _, h := range k.holders {
			if now < h.expires {
				out.Outstanding += h.outstanding
			}
		}
	}
	return out
}
