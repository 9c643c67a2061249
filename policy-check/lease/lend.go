package lease

import (
	"math"
	"time"
)

// A pocket lends the credits that need no thought: those that can go before a
// pull is due. Taking one of them is one atomic subtraction; no lock, and no
// clock, which costs more than all the rest. Whoever holds the lock has the lent
// credits back (enter), and lends anew before it gives the lock up (leave).

// lentEarly is how long before the credits end they are lent no more, in
// horizons: the timer that sees to it may be late.
const lentEarly = 0.25

// takeLent takes a lent credit, if there is one.
func (p *pocket) takeLent() (Taken, bool) {
	if p.lent.Load() <= 0 {
		return Taken{}, false
	}
	left := p.lent.Add(-1)
	if left < 0 {
		return Taken{}, false // others were faster
	}
	return Taken{OK: true, Origin: OriginLease, Remaining: p.lentRemaining.Load() + left, Reset: time.Duration(p.lentReset.Load())}, true
}

// enter locks the pocket, takes back what is lent, counts what of it was spent,
// and forgets credits that ended.
func (p *pocket) enter() (now time.Duration) {
	p.mu.Lock()
	now = p.pockets.client.now()
	if p.lentOf > 0 {
		// Below zero are only those who came too late and took nothing.
		if spent := p.lentOf - max(p.lent.Swap(0), 0); spent > 0 {
			p.arrived += uint64(spent)
			p.lastUsed = now
			p.charge(spent, now)
		}
		p.lentOf = 0
	}
	if now >= p.expires {
		p.credits = 0
	}
	return now
}

// leave lends what can be lent and unlocks the pocket. While a pull is under way
// that is all; else more is due below half of what the horizon needs.
func (p *pocket) leave(now time.Duration) {
	defer p.mu.Unlock()
	n := p.credits
	if !p.inFlight {
		n -= int64(math.Ceil(float64(p.prefetch()) / 2))
	}
	early := time.Duration(lentEarly * float64(p.pockets.client.opts.Horizon))
	rest := p.expires - early - now
	if n <= 0 || rest <= 0 {
		return
	}
	p.lentOf = n
	p.lentRemaining.Store(p.remaining + p.credits - n)
	p.lentReset.Store(int64(max(p.resetAt-now, 0)))
	p.lent.Store(n)
	if !p.expiring {
		p.expiring = true
		p.pockets.client.opts.AfterFunc(rest, p.expire)
	}
}

// expire takes back credits that are about to end.
func (p *pocket) expire() {
	now := p.enter()
	p.expiring = false
	p.leave(now)
}
