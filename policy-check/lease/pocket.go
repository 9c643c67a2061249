package lease

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

const (
	// rateMemory smooths the estimate of a pocket's demand.
	rateMemory = 100 * time.Millisecond
	// unknownPause is how long a limit that the hub does not know is left to
	// the failure policy before the hub is asked again.
	unknownPause = time.Second
)

// pocket is one key's credits in this sidecar.
type pocket struct {
	pockets *pockets
	key     string

	// lent may be taken without the lock, see lend. The other two are what such
	// a request is told.
	lent          atomic.Int64
	lentRemaining atomic.Int64 // what remains when all that is lent is taken
	lentReset     atomic.Int64

	mu       sync.Mutex // guards the fields below
	credits  int64      // those that are lent are among them
	lentOf   int64      // how many were lent
	expiring bool       // a call of expire is to come
	expires  time.Duration
	retryAt  time.Duration // the hub refused: ask again then
	unknown  time.Duration // the hub does not know the limit: until then it is as if away
	lastUsed time.Duration

	inFlight bool          // queued, or sent and not answered
	sentAt   time.Duration // when it was queued or sent
	waiters  int64
	answered chan struct{} // closed when the pull is answered or lost; nil if nobody waits

	admitted, refused uint64  // since the last pull
	arrived           uint64  // requests since the last pull, decided or waiting
	rate              float64 // requests per second, smoothed
	lastPull          time.Duration

	remaining int64
	resetAt   time.Duration
	fairRate  float64
	local     gcra.Bucket // what this sidecar admitted, against its own share
}

// ask decides one request, or holds it.
func (p *pocket) ask() (Taken, *Held) {
	if t, ok := p.takeLent(); ok {
		return t, nil
	}
	return p.consider()
}

// consider is ask with the lock.
func (p *pocket) consider() (Taken, *Held) {
	now := p.enter()
	defer p.leave(now)
	p.lastUsed = now
	p.arrived++
	if p.pockets.bucket.Scope == policy.ScopePod {
		return p.takeLocal(now, OriginLocal), nil
	}
	if t, decided := p.decide(now); decided {
		return t, nil
	}
	return p.hold(now)
}

// decide answers from what the pocket knows. It leaves only the case that it is
// empty and a pull may fill it.
func (p *pocket) decide(now time.Duration) (t Taken, decided bool) {
	switch {
	case p.credits > 0:
		return p.spend(now), true
	case !p.pockets.client.connected.Load() || now < p.unknown:
		return p.fallback(now), true
	case now < p.retryAt:
		return p.refuse(OriginLease, p.retryAt-now, now), true
	}
	return Taken{}, false
}

// spend takes a credit and pulls more when less than half of the horizon is
// left. The own share is charged too, so that a request that the fallback
// decides in between does not come on top.
func (p *pocket) spend(now time.Duration) Taken {
	p.charge(1, now)
	if float64(p.credits) < float64(p.prefetch())/2 && now >= p.retryAt {
		p.pull(now, p.pockets.client.lazy)
	}
	return Taken{OK: true, Origin: OriginLease, Remaining: p.remaining + p.credits, Reset: max(p.resetAt-now, 0)}
}

// charge notes that n credits were spent.
func (p *pocket) charge(n int64, now time.Duration) {
	p.credits -= n
	p.admitted += uint64(n)
	r := p.pockets.localRate(p.fairRate)
	p.local.Spend(r, float64(now), n)
	debt := float64(now) + r.Interval*r.Burst + float64(p.pockets.client.opts.Horizon)
	p.local = gcra.Bucket(math.Min(float64(p.local), debt))
}

// prefetch is how many credits the horizon needs. It is zero for a slow key,
// whose every request then pulls for itself: buying ahead would let credits end
// unspent.
func (p *pocket) prefetch() int64 {
	return int64(min(p.rate, p.pockets.perSec) * p.pockets.client.opts.Horizon.Seconds())
}

func (p *pocket) refuse(o Origin, retry time.Duration, now time.Duration) Taken {
	p.refused++
	return Taken{Origin: o, RetryAfter: retry, Reset: max(p.resetAt-now, 0)}
}

// fallback is the failure policy.
func (p *pocket) fallback(now time.Duration) Taken {
	switch p.pockets.bucket.OnHubDown {
	case policy.HubDownAllow:
		p.admitted++
		return Taken{OK: true, Origin: OriginFallback}
	case policy.HubDownDeny:
		return p.refuse(OriginFallback, time.Second, now)
	}
	return p.takeLocal(now, OriginFallback)
}

func (p *pocket) takeLocal(now time.Duration, o Origin) Taken {
	r := p.pockets.localRate(p.fairRate)
	t := Taken{Origin: o}
	if p.local.Take(r, float64(now), 1) == 1 {
		p.admitted++
		t.OK = true
	} else {
		p.refused++
		t.RetryAfter = time.Duration(p.local.Until(r, float64(now), 1))
	}
	t.Remaining = max(int64(p.local.Tokens(r, float64(now))), 0)
	t.Reset = time.Duration(p.local.Reset(float64(now)))
	return t
}

func (p *pocket) giveBack(o Origin) {
	now := p.enter()
	defer p.leave(now)
	r := p.pockets.localRate(p.fairRate)
	p.local -= gcra.Bucket(r.Interval)
	if o == OriginLease && now < p.expires {
		p.credits++
	}
	if p.admitted > 0 {
		p.admitted--
	}
	p.refused++
}

// pull queues the pocket unless it is queued or under way.
func (p *pocket) pull(now time.Duration, wake chan struct{}) {
	if p.inFlight {
		if wake == p.pockets.client.urgent {
			signal(wake)
		}
		return
	}
	p.inFlight = true
	p.sentAt = now
	p.pockets.client.enqueue(p, wake)
}

// demand is what the pocket asks for. It begins a new count.
func (p *pocket) demand(now time.Duration) *policyv1.Demand {
	defer p.leave(p.enter())
	dt := max(now-p.lastPull, time.Millisecond)
	p.rate += (1 - math.Exp(-float64(dt)/float64(rateMemory))) * (float64(p.arrived)/dt.Seconds() - p.rate)
	p.lastPull, p.sentAt = now, now
	d := &policyv1.Demand{
		Limit:    p.pockets.bucket.Name,
		Key:      p.key,
		Want:     uint32(min(p.waiters+max(p.prefetch()-p.credits, 0), math.MaxInt32)),
		Admitted: p.admitted,
		Refused:  p.refused,
		Left:     uint32(max(p.credits, 0)),
	}
	p.admitted, p.refused, p.arrived = 0, 0, 0
	return d
}

// apply takes in the answer to a pull that was sent at a time. A credit's life
// counts from then, so that it never ends later than the hub thinks.
func (p *pocket) apply(g *policyv1.Grant, sentAt, now time.Duration) {
	defer p.leave(p.enter())
	switch {
	case g == nil: // the answer to a resend may have been forgotten
	case g.GetUnknownLimit():
		p.unknown = now + unknownPause
	default:
		if n := int64(g.GetCredits()); n > 0 {
			p.credits += n
			p.expires = sentAt + time.Duration(g.GetTtlNanos())
		}
		p.unknown = 0
		p.retryAt = now + time.Duration(g.GetRetryAfterNanos())
		p.remaining = g.GetRemaining()
		p.resetAt = now + time.Duration(g.GetResetNanos())
		p.fairRate = g.GetFairRate()
	}
	p.release()
}

// abandon ends a pull that will not be answered.
func (p *pocket) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
}

// release wakes who waits for the pull.
func (p *pocket) release() {
	p.inFlight = false
	p.wake()
}

func (p *pocket) wake() {
	if p.answered != nil {
		close(p.answered)
		p.answered = nil
	}
}

// idle tells whether the pocket holds nothing worth keeping.
func (p *pocket) idle(now time.Duration) bool {
	defer p.leave(p.enter())
	keep := max(pocketIdle, 2*p.pockets.bucket.Window)
	return !p.inFlight && p.waiters == 0 && now-p.lastUsed > keep
}
