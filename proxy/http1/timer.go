package http1

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// phase is what a connection waits for, and so what it means when that takes
// too long.
type phase = int64

const (
	nothing   phase = iota // a request without a limit
	idle                   // the next request
	heading                // the rest of a head
	streaming              // a byte of a request's or answer's body, or an answer
	left                   // the downstream is gone
	aborted                // the server stops
	woken                  // idle, and told to give its memory back

	phaseBits = 3
	phaseMask = 1<<phaseBits - 1
)

// timer is a connection's one time limit, by its phase. Setting it is one store,
// for which phase and time share a word: it is an atomic exchange and so a hundred
// plain ones. The server's sweep looks at it a few times a second. That is coarse,
// and free: runtime timers would cost a tenth of a request each.
type timer struct {
	state atomic.Int64 // when the phase began or was touched, and in the lowest bits the phase
	ended atomic.Int64 // the phase that went on for too long
	up    atomic.Pointer[upstream]
	half  atomic.Int64 // when the sweep first saw the downstream's end, in this phase
}

func (t *timer) set(p phase, now int64) {
	if t.half.Load() != 0 {
		t.half.Store(0)
	}
	t.state.Store(now<<phaseBits | p)
}

// begin is set for the phase that a request begins with, and returns the one
// that it ends.
func (t *timer) begin(p phase, now int64) (before phase) {
	if t.half.Load() != 0 {
		t.half.Store(0)
	}
	return t.state.Swap(now<<phaseBits|p) & phaseMask
}

// load is the phase and since when.
func (t *timer) load() (p phase, since int64) {
	state := t.state.Load()
	return state & phaseMask, state >> phaseBits
}

// touch says that there was progress. Nobody else changes the phase meanwhile.
func (t *timer) touch() { t.state.Store(netio.Now()<<phaseBits | t.state.Load()&phaseMask) }

func (t *timer) clear() { t.state.Store(nothing) }

// is reports whether the phase has been p since that time, without a store.
func (t *timer) is(p phase, since int64) bool { return t.state.Load() == since<<phaseBits|p }

// wake turns a wait for a request into one that was told to end.
func (t *timer) wake() bool {
	state := t.state.Load()
	return state&phaseMask == idle && t.state.CompareAndSwap(state, state&^phaseMask|woken)
}

// serves reports whether a request is under way.
func (t *timer) serves() bool {
	p, _ := t.load()
	return p == nothing || p == streaming
}

// limit is how long a connection may be in a phase.
func (o *Options) limit(p phase) time.Duration {
	switch p {
	case idle, woken:
		return o.DownstreamIdle
	case heading:
		return o.HeadTimeout
	case streaming:
		return o.StreamIdle
	}
	return math.MaxInt64
}

// firedAs reports that the sweep ended the connection in phase p.
func (t *timer) firedAs(p phase) bool { return t.ended.Load() == p }

func (t *timer) fired() bool { return t.ended.Load() != nothing }

// past makes a deadline end a wait at once.
var past = time.Unix(1, 0)

// fire ends whatever the connection waits for. The goroutine that waits finds
// out why and has the last word; the connection does not survive.
func (t *timer) fire(c *conn, p phase) {
	if !t.ended.CompareAndSwap(nothing, p) {
		return
	}
	// The downstream first: who wakes from the upstream has an answer to write,
	// and its own deadline for that must be the later one.
	if p != left {
		_ = c.c.SetDeadline(past)
	}
	if c.s.lot.Take(c.c) {
		c.Wake()
	}
	// Whoever takes up has it: it cannot come back to the pool with a deadline.
	if up := t.up.Swap(nil); up != nil {
		_ = up.SetDeadline(past)
	}
}
