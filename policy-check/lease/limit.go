package lease

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

// probes are the keys looked at for idleness with every demand.
const probes = 2

// limit is one bucket per key, in the hub. Times are nanoseconds since the
// server began.
type limit struct {
	bucket policy.Bucket
	// rate is deeper than the policy's burst by one horizon, see key.depth.
	rate    gcra.Rate
	perSec  float64
	horizon float64 // ns
	ttl     int64   // ns, life of a credit
	seed    maphash.Seed

	mu sync.Mutex // guards the fields below
	// keys are those that sidecars ask for, with all that is known of them.
	keys map[string]*key
	// idle are the buckets of the others that are not full, by a hash of the
	// key with a secret seed. That is all an idle key needs, in a twentieth of
	// the memory. Two of ten million keys share a bucket with odds of 3 in a
	// million.
	idle       map[uint64]gcra.Bucket
	granted    uint64
	overflowed uint64
	demands    []float64 // room for computeLevel
}

func newLimit(b policy.Bucket, horizon time.Duration) *limit {
	return &limit{
		bucket:  b,
		rate:    gcra.Rate{Interval: b.Interval(), Burst: float64(b.Burst) + float64(horizon)/b.Interval()},
		perSec:  b.PerSecond(),
		horizon: float64(horizon),
		ttl:     int64(horizon) * lifeHorizons,
		seed:    maphash.MakeSeed(),
		keys:    make(map[string]*key),
		idle:    make(map[uint64]gcra.Bucket),
	}
}

// grant answers one demand of a sidecar, which a number stands for.
func (l *limit) grant(now float64, sidecar uint64, d *policyv1.Demand) *policyv1.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &policyv1.Grant{Limit: d.GetLimit(), Key: d.GetKey(), TtlNanos: l.ttl}
	l.tidy(now, probes)
	k := l.keys[d.GetKey()]
	shared := d.GetKey() == OverflowKey
	if k == nil {
		var answered bool
		if k, answered = l.wake(now, d, g); answered {
			return g
		}
		shared = k == l.keys[OverflowKey]
	}
	l.clip(k, now)
	h := k.holder(sidecar, now)
	k.report(h, now, d, l.cap(k), shared)
	if now-k.levelAt > levelAge || len(k.holders) == 1 || k.outstanding+int64(d.GetWant()) > l.cap(k) {
		l.computeLevel(k, now)
		h = k.holder(sidecar, now)
	}
	n, retry := l.share(k, h, now, int64(d.GetWant()))
	if n < int64(d.GetWant()) {
		k.unmetAt = now
	}
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

// wake finds an idle key or makes room for a new one. When there is none it
// follows the limit's overflow: the key is then the shared one, or g is the
// complete answer.
func (l *limit) wake(now float64, d *policyv1.Demand, g *policyv1.Grant) (k *key, answered bool) {
	name := d.GetKey()
	hash := maphash.String(l.seed, name)
	bucket, known := l.idle[hash]
	if !known && l.full() && name != OverflowKey {
		l.tidy(now, 64*probes)
	}
	if !known && l.full() && name != OverflowKey {
		l.overflowed++
		switch l.bucket.Overflow {
		case policy.OverflowAllow:
			g.Credits = d.GetWant()
			return nil, true
		case policy.OverflowDeny:
			g.RetryAfterNanos = int64(time.Second)
			return nil, true
		}
		if k = l.keys[OverflowKey]; k != nil {
			return k, false
		}
		name = OverflowKey
		hash = maphash.String(l.seed, name)
		bucket = l.idle[hash]
	}
	delete(l.idle, hash)
	k = newKey(bucket)
	l.keys[name] = k
	return k, false
}

func (l *limit) full() bool { return len(l.keys)+len(l.idle) >= l.bucket.MaxKeys }

// tidy looks at n keys and n idle ones, in the maps' random order: bounded work
// that keeps up with any rate of new keys. A key that nobody asks for becomes
// idle, and one whose bucket is full is forgotten: it is as if it had never been
// seen.
func (l *limit) tidy(now float64, n int) {
	left := n
	for name, k := range l.keys {
		if left--; left < 0 {
			break
		}
		if !k.silent(now) {
			continue
		}
		delete(l.keys, name)
		if !l.refilled(k.bucket, now) {
			l.idle[maphash.String(l.seed, name)] = k.bucket
		}
	}
	left = n
	for hash, bucket := range l.idle {
		if left--; left < 0 {
			break
		}
		if l.refilled(bucket, now) {
			delete(l.idle, hash)
		}
	}
}

// refilled tells whether the bucket has the policy's burst again.
func (l *limit) refilled(b gcra.Bucket, now float64) bool { return b.Reset(now) <= l.horizon }

func (l *limit) stats(now float64) LimitStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := LimitStats{Limit: l.bucket.Name, Granted: l.granted, Overflowed: l.overflowed, Keys: len(l.keys) + len(l.idle)}
	for _, k := range l.keys {
		for i := range k.holders {
			if h := &k.holders[i]; now < h.expires {
				out.Outstanding += h.outstanding
			}
		}
	}
	return out
}
