package lease

import (
	"math"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

const (
	// demandMemory smooths a sidecar's demand, in nanoseconds.
	demandMemory = 300e6
	// levelAge is how long a water level is used before it is computed again.
	levelAge = 20e6
	// holderIdle is when a silent sidecar leaves a key.
	holderIdle = 5e9
	// unmetMemory is how long a refusal counts as waiting demand, in horizons.
	unmetMemory = 1.5
	// refusedPause is how soon a sidecar that got less than it wanted may ask
	// again, in horizons.
	refusedPause = 0.2
)

// key is one bucket and the sidecars that ask for its credits.
type key struct {
	bucket   gcra.Bucket
	holders  []holder
	level    float64 // max-min share in requests per second, or infinite
	levelAt  float64
	lastPull float64
	unmetAt  float64 // when a pull got less than it wanted
	// outstanding is the sum over the holders, a little high between two
	// computations of the level: credits that ended are removed then.
	outstanding int64
}

// holder is one sidecar at one key. A key has few, so that they are searched,
// and most keys have one.
type holder struct {
	sidecar     uint64
	demand      float64 // requests per second, admitted or not
	lastPull    float64
	fair        gcra.Bucket // what it got, against its fair share
	outstanding int64
	expires     float64
}

func newKey(b gcra.Bucket) *key {
	return &key{bucket: b, level: math.Inf(1), levelAt: math.Inf(-1), unmetAt: math.Inf(-1)}
}

// holder finds or makes a sidecar's place. It is valid until the next call of
// holder or computeLevel.
func (k *key) holder(sidecar uint64, now float64) *holder {
	k.lastPull = now
	for i := range k.holders {
		if k.holders[i].sidecar == sidecar {
			return &k.holders[i]
		}
	}
	k.holders = append(k.holders, holder{sidecar: sidecar, lastPull: now})
	k.levelAt = math.Inf(-1)
	return &k.holders[len(k.holders)-1]
}

// silent tells whether no sidecar asks for the key or holds credits of it.
func (k *key) silent(now float64) bool {
	if now-k.lastPull <= holderIdle {
		return false
	}
	for i := range k.holders {
		if now < k.holders[i].expires {
			return false
		}
	}
	return true
}

// clip takes from the bucket what is deeper than it may be now. It comes before
// the sidecar's report: credits that were spent since the last pull count as
// outstanding here, which is what keeps bucket and credits together below the
// bound of the package.
func (l *limit) clip(k *key, now float64) {
	missing := math.Max(l.rate.Burst-l.depth(k, now), 0)
	k.bucket = gcra.Bucket(math.Max(float64(k.bucket), now+missing*l.rate.Interval))
}

// depth is how many tokens the bucket may hold: the policy's burst, less what
// sidecars hold already, for that is part of any burst to come. Half of it is
// always there for who comes first; one credit of each sidecar is not counted.
//
// Tokens that come back while demand waits are kept for a horizon beyond: else
// each delay of a pull that is longer than the small default burst (50 ms) would
// be capacity lost. Demand that waited shortly before counts as well, for a small
// limit is asked for with pauses longer than its burst (SIM, 50 per second over
// 100 sidecars: 12 % instead of 16 % unused with one horizon, 9 % with one and a
// half; a 10,000 limit is exceeded by 5.5 % with two).
func (l *limit) depth(k *key, now float64) float64 {
	burst := float64(l.bucket.Burst)
	ahead := float64(max(k.outstanding-int64(len(k.holders)), 0))
	if now-k.unmetAt > unmetMemory*l.horizon {
		return math.Max(burst-ahead, burst/2)
	}
	return l.rate.Burst - ahead
}

// cap bounds the credits outstanding of a key: what the horizon needs, and one
// for each sidecar that asks for single ones.
func (l *limit) cap(k *key) int64 {
	return int64(math.Ceil(l.perSec*l.horizon/1e9)) + int64(len(k.holders))
}

// report takes in what the sidecar says about its pocket. Credits that it holds
// from a hub before this one count as well, up to the cap. Behind the shared key
// a sidecar has many pockets, of which it tells about one.
func (k *key) report(h *holder, now float64, d *policyv1.Demand, limit int64, shared bool) {
	seen := float64(d.GetAdmitted() + d.GetRefused())
	// The requests that wait for this pull are counted once they are decided.
	dt := math.Max(now-h.lastPull, 1e6)
	h.demand += (1 - math.Exp(-dt/demandMemory)) * (seen/dt*1e9 - h.demand)
	h.lastPull = now
	left := min(int64(d.GetLeft()), limit)
	if shared {
		if now >= h.expires {
			k.outstanding -= h.outstanding
			h.outstanding = 0
		}
		left = max(h.outstanding-int64(min(d.GetAdmitted(), math.MaxInt32)), left)
	}
	k.outstanding += left - h.outstanding
	h.outstanding = left
}

// computeLevel recomputes the fair share, forgets silent sidecars and counts out
// the credits whose life ended. It moves the holders.
func (l *limit) computeLevel(k *key, now float64) {
	l.demands = l.demands[:0]
	k.outstanding = 0
	kept := k.holders[:0]
	for _, h := range k.holders {
		if now >= h.expires {
			h.outstanding = 0
		}
		if now-h.lastPull > holderIdle && h.outstanding == 0 {
			continue
		}
		kept = append(kept, h)
		k.outstanding += h.outstanding
		demand := h.demand
		if silent := now - h.lastPull - demandMemory; silent > 0 {
			demand *= math.Exp(-silent / demandMemory)
		}
		l.demands = append(l.demands, demand)
	}
	k.holders = kept
	k.level = fairLevel(l.demands, l.perSec)
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
	// A sidecar that comes back sooner finds little more, at the price of a pull:
	// a fifth of the horizon leaves 0.3 % more of the limit unused and spares four of
	// ten pulls and eight of ten waits (SIM, 100 sidecars on 10,000 per second).
	return n, math.Max(retry, l.horizon*refusedPause)
}

// fallbackRate is what the sidecar may admit alone if the hub goes away now.
func (l *limit) fallbackRate(k *key, h *holder) float64 {
	equal := l.perSec / float64(len(k.holders))
	return math.Min(math.Max(h.demand*1.3, equal*0.1), math.Min(k.level, l.perSec))
}
