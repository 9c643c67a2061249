package http1

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// phase is what a connection waits for, and so what it means when that takes
// too long.
type phase = int32

const (
	nothing   phase = iota
	idle            // the next request
	heading         // the rest of a head
	streaming       // a byte of a request's or answer's body, or an answer
	left            // the downstream is gone
	aborted         // the server stops
	woken           // idle, and told to give its memory back
)

// timer is a connection's one time limit, by its phase. Setting it is two stores,
// of which each is an atomic exchange and so a hundred plain ones; the server's sweep
// looks at it a few times a second. That is coarse, and free: runtime timers would
// cost a tenth of a request each.
type timer struct {
	phase atomic.Int32
	since atomic.Int64
	ended atomic.Int32 // the phase that went on for too long
	up    atomic.Pointer[upstream]
	half  atomic.Int64 // when the sweep first saw the downstream's end, in this phase
}

func (t *timer) set(p phase, now int64) {
	t.since.Store(now)
	if t.half.Load() != 0 {
		t.half.Store(0)
	}
	t.phase.Store(p)
}

// touch says that there was progress.
func (t *timer) touch() { t.since.Store(netio.Now()) }

func (t *timer) clear() { t.phase.Store(nothing) }

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
