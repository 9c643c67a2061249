package lease

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

const (
	shards = 16
	// pocketIdle is when an unused pocket may be forgotten, if its window is no
	// longer.
	pocketIdle = 10 * time.Second
)

// pockets are the keys of one limit that this sidecar saw lately.
type pockets struct {
	client *Client
	bucket policy.Bucket
	rate   gcra.Rate
	perSec float64
	seed   maphash.Seed

	only   *pocket // the pocket of the empty key
	shared *pocket // the pocket of all keys beyond the bound
	count  atomic.Int64
	shards [shards]shard
}

type shard struct {
	mu   sync.Mutex // guards the field below
	keys map[string]*pocket
}

func newPockets(c *Client, b policy.Bucket) *pockets {
	l := &pockets{
		client: c,
		bucket: b,
		rate:   gcra.Rate{Interval: b.Interval(), Burst: float64(b.Burst)},
		perSec: b.PerSecond(),
		seed:   maphash.MakeSeed(),
	}
	l.only = &pocket{pockets: l}
	l.shared = &pocket{pockets: l, key: OverflowKey}
	for i := range l.shards {
		l.shards[i].keys = make(map[string]*pocket)
	}
	return l
}

// pocket finds or makes the pocket of a key. Beyond the bound it is the shared
// one, or nil when the policy wants no shared bucket.
func (l *pockets) pocket(key string) *pocket {
	if key == "" {
		return l.only
	}
	s := &l.shards[maphash.String(l.seed, key)%shards]
	if p := l.find(s, key); p != nil {
		return p
	}
	l.forgetIdle(s, 2)
	bound := int64(min(l.bucket.MaxKeys, l.client.opts.MaxKeys))
	if l.count.Load() >= bound {
		for i := range l.shards {
			l.forgetIdle(&l.shards[i], 8)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.keys[key]; p != nil {
		return p
	}
	if l.count.Load() >= bound {
		if l.bucket.Overflow == policy.OverflowSharedBucket {
			return l.shared
		}
		return nil
	}
	key = strings.Clone(key) // it may be a view into a request
	p := &pocket{pockets: l, key: key, lastUsed: l.client.now()}
	s.keys[key] = p
	l.count.Add(1)
	return p
}

func (l *pockets) find(s *shard, key string) *pocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key]
}

// forgetIdle looks at n keys of a shard, in the map's random order: bounded
// work that keeps up with any rate of new keys.
func (l *pockets) forgetIdle(s *shard, n int) {
	now := l.client.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range s.keys {
		if n--; n < 0 {
			return
		}
		if p.idle(now) {
			delete(s.keys, key)
			l.count.Add(-1)
		}
	}
}

// overflow answers for a key beyond the bound when there is no shared bucket.
func (l *pockets) overflow() Taken {
	return Taken{OK: l.bucket.Overflow == policy.OverflowAllow, Origin: OriginLocal, RetryAfter: time.Second}
}

// localRate is what this sidecar may admit alone: everything in Pod scope, else
// its last fair share and at least an equal part.
func (l *pockets) localRate(fair float64) gcra.Rate {
	if l.bucket.Scope == policy.ScopePod {
		return l.rate
	}
	perSec := max(fair, l.perSec/float64(l.client.sidecars.Load()))
	perSec = min(perSec, l.perSec)
	return gcra.Rate{Interval: 1e9 / perSec, Burst: max(1, l.rate.Burst*perSec/l.perSec)}
}
