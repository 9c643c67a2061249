package ingest

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// level is how much admission lets in.
type level int

const (
	open     level = iota // up to the budget
	narrowed              // one batch at a time: memory is short
	stopped               // none: memory is shorter
)

// Reasons for which a batch has to wait.
const (
	reasonBudget = "budget" // as many as may be under way are
	reasonMemory = "memory" // the process is near its limit
)

// admission bounds the bytes of the batches under way: those that were admitted and
// are neither durable nor refused yet. Who comes first is admitted first, so that a
// large batch is not passed by small ones for ever. A batch above the whole budget
// counts as the budget, and is then under way alone. Safe for concurrent use.
type admission struct {
	budget int64
	held   func(reason string) // counts a batch that had to wait

	mu           sync.Mutex // guards the fields below
	level        level
	used         int64
	tickets      list.List // of *ticket: all, in the order in which they came
	waiting      list.List // of *ticket: those that are not admitted, likewise
	waitingBytes int64
	// changed is closed when who waits at the gate should look again; nil as long as
	// nobody does.
	changed chan struct{}
}

// ticket is one batch from its arrival until it is done.
type ticket struct {
	weight   int64 // bytes, at most the budget
	came     time.Time
	place    *list.Element // in tickets
	wait     *list.Element // in waiting, nil if it is not
	admitted chan struct{} // closed when it is; nil if it did not have to wait
}

func newAdmission(budget int64, held func(reason string)) *admission {
	return &admission{budget: budget, held: held}
}

// gate waits until it makes sense to receive another batch: not while batches for a
// whole budget wait already, nor while nothing is let in. What a sender has to say
// stays with it meanwhile, but for what its stream's flow control lets through.
func (a *admission) gate(ctx context.Context) error {
	for {
		a.mu.Lock()
		if a.level != stopped && a.waitingBytes < a.budget {
			a.mu.Unlock()
			return nil
		}
		if a.changed == nil {
			a.changed = make(chan struct{})
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// admit waits until a batch of so many bytes may be under way. The ticket is to be
// given to done, exactly once; there is none with an error, which is ctx's.
func (a *admission) admit(ctx context.Context, weight int64) (*ticket, error) {
	t := &ticket{weight: min(weight, a.budget), came: time.Now()}
	a.mu.Lock()
	t.place = a.tickets.PushBack(t)
	if a.waiting.Len() == 0 && a.fits(t) {
		a.used += t.weight
		a.mu.Unlock()
		return t, nil
	}
	t.admitted = make(chan struct{})
	t.wait = a.waiting.PushBack(t)
	a.waitingBytes += t.weight
	reason := reasonBudget
	if a.level != open {
		reason = reasonMemory
	}
	a.mu.Unlock()
	a.held(reason)
	select {
	case <-t.admitted:
		return t, nil
	case <-ctx.Done():
		a.done(t)
		return nil, ctx.Err()
	}
}

// fits reports whether the next in turn may go. The caller holds the lock.
func (a *admission) fits(t *ticket) bool {
	switch a.level {
	case open:
		return a.used+t.weight <= a.budget
	case narrowed: // what is under way is little, and the hub does not go deaf
		return a.used == 0
	default:
		return false
	}
}

// done ends a batch, whether it was admitted or not.
func (a *admission) done(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tickets.Remove(t.place)
	if t.wait != nil {
		a.forget(t)
	} else {
		a.used -= t.weight
	}
	a.advance()
}

// forget takes a ticket out of those that wait. The caller holds the lock.
func (a *admission) forget(t *ticket) {
	a.waiting.Remove(t.wait)
	t.wait = nil
	a.waitingBytes -= t.weight
}

// advance admits who is next. The caller holds the lock.
func (a *admission) advance() {
	for e := a.waiting.Front(); e != nil; e = a.waiting.Front() {
		t := e.Value.(*ticket)
		if !a.fits(t) {
			break
		}
		a.forget(t)
		a.used += t.weight
		close(t.admitted)
	}
	if a.changed != nil && a.level != stopped && a.waitingBytes < a.budget {
		close(a.changed)
		a.changed = nil
	}
}

// setLevel changes how much is let in. What is under way stays so.
func (a *admission) setLevel(l level) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.level = l
	a.advance()
}

// admissionStats is admission at one moment.
type admissionStats struct {
	level           level
	used, waiting   int64 // bytes
	waitingBatches  int
	oldest          time.Duration // of all that are not done
	underWayBatches int
}

func (a *admission) stats() admissionStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := admissionStats{
		level: a.level, used: a.used, waiting: a.waitingBytes, waitingBatches: a.waiting.Len(),
		underWayBatches: a.tickets.Len() - a.waiting.Len(),
	}
	if e := a.tickets.Front(); e != nil {
		s.oldest = time.Since(e.Value.(*ticket).came)
	}
	return s
}
