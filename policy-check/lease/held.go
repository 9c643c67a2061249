package lease

import (
	"context"
	"time"
)

// Held is a request that waits for a pull. It ends with Retry that decides or
// with GiveUp, and one of them must end it.
type Held struct {
	pocket   *pocket
	deadline time.Duration
	answered chan struct{} // closed when asking again makes sense
}

// hold makes the request wait. It is called with the pocket's lock held.
func (p *pocket) hold(now time.Duration) (Taken, *Held) {
	deadline := now + p.pockets.bucket.HoldTimeout
	if p.inFlight {
		// A hub that is already late is not waited for again by each request.
		deadline = min(deadline, p.sentAt+p.pockets.bucket.HoldTimeout)
	}
	if deadline <= now {
		return p.fallback(now), nil
	}
	p.waiters++
	h := &Held{pocket: p, deadline: deadline}
	h.pull(now)
	return Taken{}, h
}

// pull wants an answer of the hub. It is called with the pocket's lock held.
func (h *Held) pull(now time.Duration) {
	p := h.pocket
	p.pull(now, p.pockets.client.urgent)
	if p.answered == nil {
		p.answered = make(chan struct{})
	}
	h.answered = p.answered
}

// Deadline is when the request must be given up.
func (h *Held) Deadline() time.Time {
	c := h.pocket.pockets.client
	return c.start.Add(h.deadline)
}

// Answered is closed when Retry makes sense. Retry replaces it.
func (h *Held) Answered() <-chan struct{} { return h.answered }

// Retry decides with what the last answer brought. Without a decision the
// request waits for the next one.
func (h *Held) Retry() (t Taken, decided bool) {
	p := h.pocket
	now := p.enter()
	defer p.leave(now)
	if t, decided = p.decide(now); decided {
		p.waiters--
		return t, true
	}
	h.pull(now)
	return Taken{}, false
}

// GiveUp decides without a further answer.
func (h *Held) GiveUp() Taken {
	p := h.pocket
	now := p.enter()
	defer p.leave(now)
	p.waiters--
	if t, decided := p.decide(now); decided {
		return t
	}
	return p.fallback(now)
}

// Wait retries until there is a decision, the time is up, or ctx ends.
func (h *Held) Wait(ctx context.Context) Taken {
	timer := time.NewTimer(h.deadline - h.pocket.pockets.client.now())
	defer timer.Stop()
	for {
		select {
		case <-h.answered:
		case <-timer.C:
			return h.GiveUp()
		case <-ctx.Done():
			return h.GiveUp()
		}
		if t, decided := h.Retry(); decided {
			return t
		}
	}
}
